"""A file system as ISO 7816-4 cards have it: SELECT in all its ways, READ BINARY. Read only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sdbox.smartcard.virtual.apdu import EXTENDED, SHORT, Command, Status
from sdbox.smartcard.virtual.shell import CardRefusal
from sdbox.smartcard.virtual.tlv import tlv

MASTER: Final = 0x3F00
FOLDER, TRANSPARENT, KEY = 0x38, 0x01, 0x11  # file descriptor bytes (table 12); a key's is the card's own
NO_ANSWER: Final = 0x0C  # SELECT with this P2 wants no control information
BY_ID, CHILD_FOLDER, CHILD_FILE, PARENT, BY_NAME, FROM_MASTER, FROM_CURRENT = 0x00, 0x01, 0x02, 0x03, 0x04, 0x08, 0x09

FilePath = tuple[int, ...]
Describe = Callable[[FilePath, bytes | None], bytes]  # adds data objects to a file's control information


def no_more(_path: FilePath, _content: bytes | None) -> bytes:
    """Add nothing."""
    return b""


class FileSystem:
    """Files by their whole path in hex (3F0050155031), None for a key; folders are what the paths lead through."""

    def __init__(
        self, files: Mapping[str, bytes | None], names: Mapping[bytes, str], describe: Describe = no_more
    ) -> None:
        self._files = {_path(text): content for text, content in files.items()}
        self._folders = {path[:end] for path in self._files for end in range(1, len(path))}
        self._names = {name: _path(text) for name, text in names.items()}
        self._describe = describe
        self.reset()

    def reset(self) -> None:
        self.current: FilePath = (MASTER,)

    def select(self, command: Command) -> bytes:
        """SELECT (11.2.2); CardRefusal(6A82) if there is no such file. What is selected then stays selected."""
        found = self._find(command)
        if found is None or not (found in self._files or found in self._folders):
            raise CardRefusal(Status.NOT_FOUND)
        self.current = found
        return b"" if command.p2 & NO_ANSWER == NO_ANSWER else self._control(found)

    def read(self, command: Command) -> bytes:
        """READ BINARY (11.3.3) of the selected file; fewer bytes than asked for at its end."""
        content = self._files.get(self.current)
        if content is None:
            raise CardRefusal(Status.NOT_ALLOWED if self.current in self._files else Status.NO_EF)
        offset = (command.p1 & 0x7F) << 8 | command.p2
        if offset > len(content):
            raise CardRefusal(Status.WRONG_OFFSET)
        return content[offset : offset + min(command.length or SHORT, EXTENDED)]

    def _find(self, command: Command) -> FilePath | None:
        folder = self.current if self.current in self._folders else self.current[:-1]
        if command.p1 == BY_NAME:
            return self._names.get(command.data)
        if command.p1 == PARENT:
            return folder[:-1] or folder
        if len(command.data) % 2:
            raise CardRefusal(Status.WRONG_LENGTH)
        asked = _path(command.data.hex())
        if command.p1 == BY_ID:
            return self._by_id(folder, asked)
        start = {FROM_MASTER: (MASTER,), FROM_CURRENT: folder, CHILD_FOLDER: folder, CHILD_FILE: folder}.get(command.p1)
        if start is None:
            raise CardRefusal(Status.WRONG_PARAMETERS)
        return start + asked

    def _by_id(self, folder: FilePath, asked: FilePath) -> FilePath | None:
        """The master file, a child, the folder itself, one beside it: in this order (7.3.1)."""
        if asked in ((), (MASTER,)):
            return (MASTER,)
        near = (folder + asked, folder[:-1] + asked)
        return next((path for path in near if path in self._files or path in self._folders), None)

    def _control(self, path: FilePath) -> bytes:
        content = self._files.get(path)
        size = b"" if content is None else tlv(0x80, len(content).to_bytes(2, "big"))
        kind = tlv(0x82, bytes([FOLDER if path in self._folders else KEY if content is None else TRANSPARENT]))
        return tlv(0x6F, size, kind, tlv(0x83, path[-1].to_bytes(2, "big")), self._describe(path, content))


def _path(text: str) -> FilePath:
    raw = bytes.fromhex(text)
    return tuple(int.from_bytes(raw[start : start + 2], "big") for start in range(0, len(raw), 2))
