"""Every message in every state, and bytes that are no messages: the gateway ends the conversation (S11, S12)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TypeVar

import pytest

from sdbox.agent.channel.authenticator import channel_keys, make_authenticator
from sdbox.protocol import messages as m
from sdbox.protocol.authenticator_request import certificate_request
from sdbox.protocol.contexts import QUOTE_EXPORTER_LABEL, offers_context
from sdbox.protocol.states import GATEWAY_RECEIVES, ChannelState
from sdbox.protocol.tls import StreamClosedError, TlsStream
from sdbox.protocol.wire import decode_to_box, encode
from tests.service.gateway_bench import Bench, card, running_bench
from tests.service.gateway_site import NAME, running_gateway

_M = TypeVar("_M", bound=m.Message)
STATES: list[ChannelState] = [state for state in ChannelState if state is not ChannelState.FAILED]
SAMPLES: tuple[m.Message, ...] = (
    m.Hello(m.VERSION, bytes(16), b"\x00\x0b" + bytes(32)),
    m.Activated(bytes(32)),
    m.EvidenceMessage(b"", b"", b"", b"", {}),
    m.CardProof((), b""),
    m.Open("atlas", bytes(32), b""),
    m.Heartbeat("none"),
    m.Close("none", "user"),
    m.RenewalRequest("atlas", b"", b""),
    m.RenewalWritten("atlas", b""),
)
FORBIDDEN = [(state, sample) for state in STATES for sample in SAMPLES if (state, type(sample)) not in GATEWAY_RECEIVES]
ANSWER_SECONDS = 10.0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


class Raw:
    """A box's end without a state table: says what it is told to."""

    def __init__(self, bench: Bench, stream: TlsStream) -> None:
        self.bench, self.stream = bench, stream

    @classmethod
    async def connect(cls, bench: Bench, endpoint: str = "") -> Raw:
        endpoint = endpoint or bench.gateway.endpoint
        return cls(bench, await TlsStream.connect(endpoint, server_name=NAME, ca_file=bench.site.ca_file))

    async def say(self, message: m.Message) -> None:
        await self.stream.write(encode(message))

    async def hear(self, kind: type[_M]) -> _M:
        async with asyncio.timeout(ANSWER_SECONDS):
            message = decode_to_box(await self.stream.read_frame(m.LARGE_FRAME))
            assert isinstance(message, kind)
            return message

    async def ended(self) -> list[m.Message]:
        """Return what the gateway still says before it closes the connection."""
        heard: list[m.Message] = []
        try:
            while True:
                heard.append(await self.hear(m.Message))
        except StreamClosedError:
            return heard

    async def reach(self, state: ChannelState) -> None:
        """Go the honest way up to `state`."""
        order = STATES.index(state)
        box = self.bench.box
        if order >= 1:
            await self.say(m.Hello(m.VERSION, box.box_id.bytes, await box.ak_name()))
            challenge = await self.hear(m.Challenge)
        if order >= 2:
            wrapped = challenge.id_object, challenge.encrypted_secret
            await self.say(m.Activated(await box.activate(*wrapped, challenge.ek_name)))
        if order >= 3:
            exporter = self.stream.export(QUOTE_EXPORTER_LABEL, 32)
            evidence = await box.evidence(challenge.nonce, exporter, challenge.pcrs)
            log = evidence.event_log
            await self.say(
                m.EvidenceMessage(evidence.attest, evidence.signature, evidence.ak_public, log, evidence.pcrs)
            )
            attested = await self.hear(m.Attested)
        if order >= 4:
            await self.show_card(attested.nonce)

    async def show_card(self, nonce: bytes) -> None:
        signer = self.bench.container("atlas")
        request = certificate_request(offers_context(nonce))
        proof = await make_authenticator(channel_keys(self.stream), request, signer.chain, signer.sign)
        await self.say(m.CardProof(card(signer), proof))
        await self.hear(m.Offers)


def test_there_is_something_to_forbid() -> None:
    assert len(FORBIDDEN) == len(STATES) * len(SAMPLES) - len(GATEWAY_RECEIVES)


@pytest.mark.parametrize(
    ("state", "sample"), FORBIDDEN, ids=lambda value: getattr(value, "value", type(value).__name__)
)
def test_what_the_table_does_not_list_ends_the_conversation(
    bench: Bench, state: ChannelState, sample: m.Message
) -> None:
    async def way() -> None:
        raw = await Raw.connect(bench)
        await raw.reach(state)
        await raw.say(sample)
        assert await raw.ended() == [m.Refused("protocol", fatal=True)]

    asyncio.run(way())


@pytest.mark.parametrize("state", [ChannelState.ATTESTED, ChannelState.OFFERED])
def test_evidence_that_was_not_asked_for_ends_the_conversation(bench: Bench, state: ChannelState) -> None:
    async def way() -> None:
        raw = await Raw.connect(bench)
        await raw.reach(state)
        await raw.say(m.EvidenceMessage(b"", b"", b"", b"", {}))
        assert await raw.ended() == [m.Refused("protocol", fatal=True)]

    asyncio.run(way())


def test_a_heartbeat_or_close_of_no_session_is_answered(bench: Bench) -> None:
    async def way() -> None:
        raw = await Raw.connect(bench)
        await raw.reach(ChannelState.OFFERED)
        await raw.say(m.Heartbeat("none"))
        assert await raw.hear(m.Revoke) == m.Revoke("none", "session-revoked")
        await raw.say(m.Close("none", "user"))
        assert (await raw.hear(m.Closed)).session == "none"
        await raw.stream.close()

    asyncio.run(way())


MALFORMED = {
    "empty": bytes(4),
    "no-map": b"\0\0\0\1\xc0",
    "nested": (200).to_bytes(4, "big") + b"\x91" * 200,
    "unknown": (5).to_bytes(4, "big") + b"\x81\xa1t\xa1X",
    "too-long": (m.SMALL_FRAME + 1).to_bytes(4, "big"),
    "huge": b"\xff\xff\xff\xff",
    "to-the-box": encode(m.Heartbeat("x"))[:4] + os.urandom(len(encode(m.Heartbeat("x"))) - 4),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_message_is_closed_without_a_word(bench: Bench, data: bytes) -> None:
    async def way() -> None:
        raw = await Raw.connect(bench)
        await raw.stream.write(data)
        assert await raw.ended() == []

    asyncio.run(way())


def test_before_the_tpm_is_proven_large_frames_are_not_even_read(bench: Bench) -> None:
    async def way() -> None:
        raw = await Raw.connect(bench)
        await raw.reach(ChannelState.CHALLENGED)
        await raw.stream.write((m.SMALL_FRAME + 1).to_bytes(4, "big"))
        assert await raw.ended() == []

    asyncio.run(way())


@pytest.mark.parametrize(
    "hello",
    [
        m.Hello(m.VERSION + 1, bytes(16), b"\x00\x0b" + bytes(32)),
        m.Hello(m.VERSION, bytes(15), b"\x00\x0b" + bytes(32)),
        m.Hello(m.VERSION, bytes(16), b"\x00\x0b" + bytes(31)),
        m.Hello(m.VERSION, bytes(16), b"\x00\x04" + bytes(32)),
    ],
)
def test_a_hello_of_another_shape_is_refused(bench: Bench, hello: m.Hello) -> None:
    async def way() -> None:
        raw = await Raw.connect(bench)
        await raw.say(hello)
        assert await raw.ended() == [m.Refused("protocol", fatal=True)]

    asyncio.run(way())


def test_too_many_connections_of_one_box_are_refused(bench: Bench) -> None:
    async def way(endpoint: str) -> list[m.Message]:
        heard: list[m.Message] = []
        for _ in range(3):
            raw = await Raw.connect(bench, endpoint)
            await raw.say(m.Hello(m.VERSION, bytes(16), b"\x00\x0b" + bytes(32)))
            heard += await raw.ended()
        return heard

    with running_gateway(bench.site, limits={"box_burst": 2}) as gateway:
        heard = asyncio.run(way(gateway.endpoint))
    codes = [message.code for message in heard if isinstance(message, m.Refused)]
    assert codes == ["box-unknown", "box-unknown", "gateway-unreachable"]


def test_too_many_connections_of_one_address_are_dropped(bench: Bench) -> None:
    async def way(endpoint: str) -> None:
        host, port = endpoint.rsplit(":", 1)
        for _ in range(2):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                assert await reader.read(1) == b""
        except ConnectionResetError:
            pass  # dropped all the same
        finally:
            writer.close()

    with running_gateway(bench.site, limits={"address_burst": 2}) as gateway:
        asyncio.run(way(gateway.endpoint))
