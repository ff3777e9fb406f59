"""What agent and card worker say to each other, over a socket pair: 32-bit big-endian length, one MessagePack map.

A PIN crosses it, so every buffer on its way is a bytearray and is wiped by whoever made it.
"""

from __future__ import annotations

import socket
from typing import Final

import msgspec

from sdbox.smartcard.values import LoginMethod

FRAME_LIMIT: Final = 1 << 20


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag=True):
    """Base of all frames."""


class AskCard(Frame, frozen=True):
    """Agent -> worker, first and once: this is your card. `reader`: PC/SC name, "" without one. It has no answer."""

    variant: str
    reader: str


class AskStatus(Frame, frozen=True):
    """Agent -> worker: how is the holder verified, and how many tries are left? Costs none."""


class AskOpen(Frame, frozen=True):
    """Agent -> worker: say when the card is open, if a first look has left it to be opened meanwhile. Costs no try."""


class AskLogin(Frame, frozen=True):
    """Agent -> worker: verify the holder, once. `pin` is None where the card has a sensor.

    Unless `last_try`, a card that one mistake would block is not asked.
    """

    pin: bytearray | None
    last_try: bool = False

    def __repr__(self) -> str:
        """Leave the PIN out (S8)."""
        return "AskLogin()"


class AskSign(Frame, frozen=True):
    """Agent -> worker: sign `content` with the first of `schemes` (TLS SignatureScheme) that fits the key."""

    key_id: bytes
    content: bytes
    schemes: tuple[int, ...]


class AskRenewalKey(Frame, frozen=True):
    """Agent -> worker: return a key for the successor of the container with this certificate (DER), made if need be."""

    certificate: bytes


class AskRenewalRequest(Frame, frozen=True):
    """Agent -> worker: return a PKCS#10 for that key, signed by it."""

    certificate: bytes
    key_id: bytes


class AskRenewalWrite(Frame, frozen=True):
    """Agent -> worker: put the new certificate beside its key."""

    certificate: bytes
    key_id: bytes
    new: bytes


class AskRenewalRetire(Frame, frozen=True):
    """Agent -> worker: remove the container with this certificate; its successor `new` must be on the card."""

    certificate: bytes
    new: bytes


class AskClose(Frame, frozen=True):
    """Agent -> worker: end the card session with a card reset, then end."""


class TellStatus(Frame, frozen=True):
    """Worker -> agent: see `values.LoginStatus`."""

    method: LoginMethod
    tries: int | None
    final_try: bool
    blocked: bool


class TellOpen(Frame, frozen=True):
    """Worker -> agent: the card is open, and read as far as its module does that before a login."""


class TellContainer(Frame, frozen=True):
    """One entry of `TellIdentity`: see `protocol.values.Container`."""

    key_id: bytes
    label: str
    certificate: bytes
    project: str | None


class TellIdentity(Frame, frozen=True):
    """Worker -> agent: the holder is verified; this is the card."""

    serial: str
    containers: tuple[TellContainer, ...]


class TellSignature(Frame, frozen=True):
    """Worker -> agent: the scheme used and the signature as TLS wants it (RFC 8446, section 4.4.3)."""

    scheme: int
    signature: bytes


class TellRenewal(Frame, frozen=True):
    """Worker -> agent: a key's identifier, or a request (DER)."""

    value: bytes


class TellClosed(Frame, frozen=True):
    """Worker -> agent: the card has been reset."""


class TellRefused(Frame, frozen=True):
    """Worker -> agent: no, with a code of `protocol.reasons`."""

    code: str
    detail: str
    tries: int | None = None
    final_try: bool = False


AskRenewal = AskRenewalKey | AskRenewalRequest | AskRenewalWrite | AskRenewalRetire
Ask = AskCard | AskStatus | AskOpen | AskLogin | AskSign | AskClose | AskRenewal
Tell = TellStatus | TellOpen | TellIdentity | TellSignature | TellRenewal | TellClosed | TellRefused

_encoder: Final = msgspec.msgpack.Encoder()
_ask_decoder: Final[msgspec.msgpack.Decoder[Ask]] = msgspec.msgpack.Decoder(Ask)
_tell_decoder: Final[msgspec.msgpack.Decoder[Tell]] = msgspec.msgpack.Decoder(Tell)
_MALFORMED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what the decoder raises


class FrameError(Exception):
    """The other side closed the socket, or sent what is no frame."""


def wipe(buffer: bytearray | None) -> None:
    """Overwrite a secret in place."""
    if buffer is not None:
        buffer[:] = bytes(len(buffer))


def encode_frame(frame: Frame) -> bytearray:
    """Return the bytes of a frame, in a buffer that the caller wipes if it held a secret."""
    buffer = bytearray(4)
    _encoder.encode_into(frame, buffer, 4)
    buffer[:4] = (len(buffer) - 4).to_bytes(4, "big")
    return buffer


def frame_length(header: bytes | bytearray) -> int:
    """Return the length a header announces; FrameError if it is out of bounds."""
    length = int.from_bytes(header, "big")
    if not 0 < length <= FRAME_LIMIT:
        raise FrameError("frame length out of bounds")
    return length


def decode_ask(body: bytes | bytearray) -> Ask:
    """Return what the agent asks; FrameError if it is nothing of that."""
    try:
        return _ask_decoder.decode(body)
    except _MALFORMED as error:
        raise FrameError("malformed frame") from error


def decode_tell(body: bytes | bytearray) -> Tell:
    """Return what the worker tells; FrameError if it is nothing of that."""
    try:
        return _tell_decoder.decode(body)
    except _MALFORMED as error:
        raise FrameError("malformed frame") from error


def send_frame(link: socket.socket, frame: Frame) -> None:
    """Send a frame on a blocking socket (worker side)."""
    link.sendall(encode_frame(frame))


def _receive_exactly(link: socket.socket, size: int) -> bytearray:
    buffer, got = bytearray(size), 0
    while got < size:
        count = link.recv_into(memoryview(buffer)[got:])
        if count == 0:
            raise FrameError("the agent closed the socket")
        got += count
    return buffer


def receive_ask(link: socket.socket) -> Ask:
    """Return the next question from a blocking socket (worker side); FrameError at the end of the stream."""
    body = _receive_exactly(link, frame_length(_receive_exactly(link, 4)))
    try:
        return decode_ask(body)
    finally:
        wipe(body)
