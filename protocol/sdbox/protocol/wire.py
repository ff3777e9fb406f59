"""Messages to bytes and back. The only place that parses what the peer sent."""

from __future__ import annotations

from typing import Final

import msgspec

from sdbox.protocol.messages import LARGE_FRAME, Message, ToBox, ToGateway

_encoder: Final = msgspec.msgpack.Encoder()
_to_gateway: Final[msgspec.msgpack.Decoder[ToGateway]] = msgspec.msgpack.Decoder(ToGateway)
_to_box: Final[msgspec.msgpack.Decoder[ToBox]] = msgspec.msgpack.Decoder(ToBox)


class WireError(Exception):
    """The peer sent something that is not a message of the protocol, or too long."""


def encode(message: Message) -> bytes:
    """Return the frame of `message`: 4 bytes length, big endian, then MessagePack."""
    body = _encoder.encode(message)
    if len(body) > LARGE_FRAME:
        raise WireError("message too long")
    return len(body).to_bytes(4, "big") + body


def frame_length(header: bytes, limit: int) -> int:
    """Return the length a 4-byte header announces; WireError if it is above `limit`."""
    length = int.from_bytes(header, "big")
    if not 0 < length <= limit:
        raise WireError("frame length out of bounds")
    return length


def decode_to_gateway(body: bytes) -> ToGateway:
    """Decode what a box sent; WireError if it is no message of that direction."""
    try:
        return _to_gateway.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("malformed message") from error


def decode_to_box(body: bytes) -> ToBox:
    """Decode what the gateway sent; WireError if it is no message of that direction."""
    try:
        return _to_box.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("malformed message") from error
