"""Every message in every state, and bytes that are no messages: the gateway ends the conversation (S11, S12)."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
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


@asynccontextmanager
async def seen_from(address: str, endpoint: str) -> AsyncIterator[str]:
    """Stand before a gateway; yields an endpoint whose connections come to it from `address`."""
    host, _, port = endpoint.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
        tasks.update(asyncio.create_task(carry(*way)) for way in ((reader, far_writer), (far_reader, writer)))

    async with await asyncio.start_server(met, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_who_claims_to_be_a_box_uses_up_nothing_of_the_box(bench: Bench) -> None:
    """Whoever knows a box's UUID may ask as often as he likes: elsewhere the box itself is let in."""
    hello = m.Hello(m.VERSION, bench.box.box_id.bytes, b"\x00\x0b" + bytes(32))

    async def way(endpoint: str) -> list[m.Message]:
        heard: list[m.Message] = []
        async with seen_from("127.0.0.2", endpoint) as strangers:
            for _ in range(3):
                raw = await Raw.connect(bench, strangers)
                await raw.say(hello)
                heard.append(await raw.hear(m.Message))
                raw.stream.abort()
        raw = await Raw.connect(bench, endpoint)
        await raw.reach(ChannelState.ATTESTED)
        raw.stream.abort()
        return heard

    with running_gateway(bench.site, limits={"box_burst": 2, "box_per_minute": 1}) as gateway:
        heard = asyncio.run(way(gateway.endpoint))
    assert [type(message) for message in heard] == [m.Challenge, m.Challenge, m.Refused]
    assert heard[-1] == m.Refused("gateway-unreachable", fatal=True)


def test_too_many_connections_of_one_box_are_refused_wherever_it_is(bench: Bench) -> None:
    async def way(endpoint: str) -> list[m.Message]:
        for number, state in enumerate((ChannelState.ATTESTED, ChannelState.ATTESTED, ChannelState.ACTIVATED), 2):
            async with seen_from(f"127.0.0.{number}", endpoint) as there:
                raw = await Raw.connect(bench, there)
                await raw.reach(state)
                heard = await raw.ended() if state is ChannelState.ACTIVATED else []
                raw.stream.abort()
        return heard

    with running_gateway(bench.site, limits={"box_burst": 2, "box_per_minute": 1}) as gateway:
        assert asyncio.run(way(gateway.endpoint)) == [m.Refused("gateway-unreachable", fatal=True)]


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


def test_a_gateway_has_as_many_connections_as_the_system_lets_it(bench: Bench) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
    try:
        with running_gateway(bench.site) as gateway:
            limits = Path(f"/proc/{gateway.process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
    assert line.split()[3:5] == [str(hard), str(hard)]
