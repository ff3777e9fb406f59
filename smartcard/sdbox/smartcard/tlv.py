"""BER-TLV as smartcards use it (ISO 7816-4, clause 5.2)."""

from __future__ import annotations

from collections.abc import Iterator

LONG_TAG = 0x1F
MORE = 0x80
LENGTH_BYTES = 3  # more than any card answers; 80 would be the indefinite form, which cards do not use


def tlv(tag: int, *values: bytes) -> bytes:
    """Return the data object with `tag` (written as its bytes, 0x7F21) around the concatenated values."""
    value = b"".join(values)
    return tag.to_bytes((tag.bit_length() + 7) // 8 or 1, "big") + _length(len(value)) + value


def _length(size: int) -> bytes:
    if size < MORE:
        return bytes([size])
    body = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([MORE | len(body)]) + body


def parse_tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, value) of each data object; ValueError if the data is cut short or a length is of no card's form."""
    position = 0
    while position < len(data):
        tag, position = _read_tag(data, position)
        size, position = _read_length(data, position)
        if position + size > len(data):
            raise ValueError("data object longer than its container")
        yield tag, data[position : position + size]
        position += size


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise ValueError("data object cut short")
    return data[position]


def _read_tag(data: bytes, position: int) -> tuple[int, int]:
    tag = _byte(data, position)
    position += 1
    more = tag & LONG_TAG == LONG_TAG
    while more:
        byte = _byte(data, position)
        tag, position, more = tag << 8 | byte, position + 1, bool(byte & MORE)
    return tag, position


def _read_length(data: bytes, position: int) -> tuple[int, int]:
    first = _byte(data, position)
    position += 1
    if first < MORE:
        return first, position
    count = first & ~MORE
    if not 0 < count <= LENGTH_BYTES:
        raise ValueError("length of no card's form")
    _byte(data, position + count - 1)
    return int.from_bytes(data[position : position + count], "big"), position + count
