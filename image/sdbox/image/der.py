"""The few DER types (X.690) that a signature is made of."""

from __future__ import annotations

LONG_FORM = 0x80
SHORT_LIMIT = 0x7F


def _tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size <= SHORT_LIMIT:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, LONG_FORM | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    """Return SEQUENCE of encoded `parts`."""
    return _tagged(0x30, b"".join(parts))


def set_of(*parts: bytes) -> bytes:
    """Return SET OF encoded `parts`, sorted as X.690, 11.6 requires."""
    return _tagged(0x31, b"".join(sorted(parts)))


def context(number: int, *parts: bytes) -> bytes:
    """Return the constructed context-specific [number] over encoded `parts`."""
    return _tagged(0xA0 | number, b"".join(parts))


def octets(data: bytes) -> bytes:
    """Return OCTET STRING."""
    return _tagged(0x04, data)


def integer(value: int) -> bytes:
    """Return INTEGER of a value that is not negative."""
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def null() -> bytes:
    """Return NULL."""
    return b"\x05\0"


def oid(dotted: str) -> bytes:
    """Return OBJECT IDENTIFIER."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    return _tagged(0x06, b"".join(_base128(arc) for arc in (first * 40 + second, *rest)))


def _base128(value: int) -> bytes:
    septets = [value & 0x7F]
    while value := value >> 7:
        septets.append(value & 0x7F | 0x80)
    return bytes(reversed(septets))
