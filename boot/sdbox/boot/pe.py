"""The few fields of a PE image that measuring it needs (Microsoft PE format). Strict: every offset is checked."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_SECTIONS = 96  # the Windows loader's limit, also EDK2's
_PE32, _PE32_PLUS = 0x10B, 0x20B
_DIRECTORIES = {_PE32: 96, _PE32_PLUS: 112}  # offset of the data directories in the optional header
_SECURITY = 4  # IMAGE_DIRECTORY_ENTRY_SECURITY
_MAX_MEMORY = 1 << 30


class PeError(Exception):
    """The bytes are not a PE image with sane bounds."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section: where its bytes are in the file, and how many there are in memory."""

    name: str
    virtual_size: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PeImage:
    """A parsed image. `certificates` is (offset, size) of the attribute certificate table; (0, 0) if unsigned."""

    data: bytes
    sections: tuple[Section, ...]
    checksum_at: int
    security_at: int
    headers_size: int
    certificates: tuple[int, int]

    def content(self, section: Section) -> bytes:
        """Return the section as it is in memory: cut or zero-filled to its virtual size."""
        stored = self.data[section.offset : section.offset + min(section.size, section.virtual_size)]
        return stored + bytes(section.virtual_size - len(stored))


def parse_pe(data: bytes) -> PeImage:
    """Return the image; PeError if a header or a range lies outside the file."""
    try:
        return _parse(data)
    except struct.error as error:
        raise PeError("a header lies outside the file") from error


def _parse(data: bytes) -> PeImage:
    (header,) = struct.unpack_from("<I", data, 0x3C) if data[:2] == b"MZ" else (-1,)
    if header < 0 or data[header : header + 4] != b"PE\0\0":
        raise PeError("no PE signature")
    count, optional_size = struct.unpack_from("<H12xH", data, header + 6)
    optional = header + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    if magic not in _DIRECTORIES:
        raise PeError(f"optional header magic 0x{magic:X}")
    directories = optional + _DIRECTORIES[magic]
    (entries,) = struct.unpack_from("<I", data, directories - 4)
    security = directories + 8 * _SECURITY
    table = optional + optional_size
    if entries <= _SECURITY or security + 8 > table or not 0 < count <= MAX_SECTIONS:
        raise PeError(f"{entries} data directories, {count} sections")
    (headers_size,) = struct.unpack_from("<I", data, optional + 60)
    if not table + 40 * count <= headers_size <= len(data):
        raise PeError(f"headers of {headers_size} bytes")
    sections = tuple(_section(data, table + 40 * index) for index in range(count))
    certificates = _certificates(data, security)
    return PeImage(data, sections, optional + 64, security, headers_size, certificates)


def _section(data: bytes, at: int) -> Section:
    raw_name, virtual_size, size, offset = struct.unpack_from("<8sI4xII", data, at)
    if size and offset + size > len(data):
        raise PeError("a section lies outside the file")
    if virtual_size > _MAX_MEMORY:
        raise PeError(f"a section of {virtual_size} bytes in memory")
    return Section(raw_name.rstrip(b"\0").decode("latin-1"), virtual_size, offset, size)


def _certificates(data: bytes, at: int) -> tuple[int, int]:
    """The certificate table is the file's end, or bytes behind it would be neither hashed nor signed."""
    offset, size = struct.unpack_from("<II", data, at)
    if (offset, size) != (0, 0) and (not size or offset + size != len(data)):
        raise PeError("the certificate table is not the end of the file")
    return offset, size
