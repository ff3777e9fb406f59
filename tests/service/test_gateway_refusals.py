"""What wrong boxes and wrong gateways get: a reason code, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.agent.channel.channel import Channel
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import BoxId, Evidence
from tests.service.gateway_bench import Bench, running_bench
from tests.service.gateway_box import Box, reference, running_box
from tests.service.gateway_site import NAME, running_gateway
from tests.unit.channel_certificates import Authority


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with a good TPM that nobody enrolled."""
    with running_box(tmp_path_factory.mktemp("stranger") / "box") as box:
        yield box


async def attest(bench: Bench, box: Box, endpoint: str = "") -> None:
    endpoint = endpoint or bench.gateway.endpoint
    channel = await Channel.connect(endpoint, server_name=NAME, ca_file=bench.site.ca_file)
    try:
        await channel.attest(box.box_id, box)
    finally:
        await channel.close()


def refused(bench: Bench, box: Box, endpoint: str = "") -> Reason:
    with pytest.raises(Refusal) as caught:
        asyncio.run(attest(bench, box, endpoint))
    assert bench.peers() == 0
    return caught.value.reason


def test_a_box_that_is_not_enrolled(bench: Bench, stranger: Box) -> None:
    assert refused(bench, stranger) is Reason.BOX_UNKNOWN


def test_another_tpm_under_an_enrolled_name_cannot_open_the_credential(bench: Bench, stranger: Box) -> None:
    assert refused(bench, replace(stranger, box_id=bench.box.box_id)) is Reason.BOX_ACTIVATION


@dataclass
class Guesser(Box):
    """Another TPM whose owner guesses the secret instead."""

    async def activate(self, *_: bytes) -> bytes:
        return os.urandom(32)


def test_a_guessed_secret_is_the_gateway_s_refusal(bench: Bench, stranger: Box) -> None:
    guesser = Guesser(bench.box.box_id, stranger.tcti, stranger.event_log, stranger.ek_public)
    assert refused(bench, guesser) is Reason.BOX_ACTIVATION
    assert bench.gateway.events()[-1]["reason"] == "box-activation"


@dataclass
class Relay(Box):
    """Opens the credential with the right TPM and lets another one quote."""

    quoter: Box | None = None

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        assert self.quoter is not None
        return await replace(self.quoter, box_id=self.box_id).evidence(nonce, exporter, pcrs)


def test_a_quote_of_another_tpm(bench: Bench, stranger: Box) -> None:
    box = bench.box
    assert refused(bench, Relay(box.box_id, box.tcti, box.event_log, box.ek_public, stranger)) is Reason.BOX_EVIDENCE


@dataclass
class Liar(Box):
    """Quotes something else than it was asked to."""

    lie: str = ""

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        if self.lie == "nonce":
            nonce = os.urandom(32)
        if self.lie == "channel":
            exporter = os.urandom(32)
        if self.lie == "selection":
            pcrs = (4, 7, 16)
        evidence = await super().evidence(nonce, exporter, pcrs)
        if self.lie == "values":
            evidence = replace(evidence, pcrs={**evidence.pcrs, 4: bytes(32)})
        if self.lie == "log":
            evidence = replace(evidence, event_log=evidence.event_log[:-1])
        return evidence


@pytest.mark.parametrize("lie", ["nonce", "channel", "selection", "values", "log"])
def test_a_quote_that_is_not_what_was_asked_for(bench: Bench, lie: str) -> None:
    box = bench.box
    assert refused(bench, Liar(box.box_id, box.tcti, box.event_log, box.ek_public, lie)) is Reason.BOX_EVIDENCE
    assert any(char.isdigit() for char in bench.gateway.events()[-1]["detail"])  # the failed checks


@pytest.mark.parametrize("pcr", ["4", "7", "11"])
def test_a_pcr_that_differs_is_another_image(bench: Bench, pcr: str) -> None:
    other = replace(bench.site, reference=reference(**{pcr: "ab" * 32}))
    with running_gateway(other) as gateway:
        assert refused(bench, bench.box, gateway.endpoint) is Reason.BOX_IMAGE


def test_an_enrolled_box_keeps_its_tpm(bench: Bench, stranger: Box) -> None:
    """Checklist 6: another EK for a known box needs an operator, who forgets the old one first."""
    done = bench.gateway.command("enrol", "--box-id", str(bench.box.box_id), "--ek-public", str(stranger.ek_public))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_forgotten_box_is_unknown(bench: Bench, stranger: Box) -> None:
    bench.gateway.enrol(stranger)
    asyncio.run(attest(bench, stranger))
    assert bench.gateway.command("forget", "--box-id", str(stranger.box_id)).returncode == 0
    assert refused(bench, stranger) is Reason.BOX_UNKNOWN
    assert bench.gateway.command("forget", "--box-id", str(stranger.box_id)).returncode == 1


def test_a_gateway_that_is_down(bench: Bench) -> None:
    with socket.socket() as bound:  # bound and not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        assert refused(bench, bench.box, f"127.0.0.1:{bound.getsockname()[1]}") is Reason.GATEWAY_UNREACHABLE


def test_a_gateway_certificate_of_another_ca(bench: Bench) -> None:
    foreign = Authority("centre CA").server(bench.site.server_key.public_key(), NAME)
    with running_gateway(replace(bench.site, server_certificate=foreign)) as gateway:
        assert refused(bench, bench.box, gateway.endpoint) is Reason.GATEWAY_UNTRUSTED


def test_a_second_gateway_start_leaves_no_peer_and_no_login(bench: Bench) -> None:
    bench.tunnels["atlas"]["ab" * 32] = {"allowed_ip": "10.64.1.9/32"}
    bench.site.sam_file("atlas").write_text("left:::0123456789abcdef0123456789abcdef:::\n")
    with running_gateway(bench.site):
        assert (bench.peers(), bench.logins("atlas")) == (0, [])


def test_commands_say_what_is_wrong(bench: Bench, tmp_path: Path) -> None:
    key = tmp_path / "no-key.pem"
    key.write_text("no key")
    box = str(BoxId.parse("00000000-0000-4000-8000-000000000001"))
    assert bench.gateway.command("enrol", "--box-id", box, "--ek-public", str(key)).returncode == 2
    assert bench.gateway.command("enrol", "--box-id", "nonsense", "--ek-public", str(key)).returncode == 2
    assert bench.gateway.command("revoke").returncode == 2
    assert bench.gateway.command("revoke", "--certificate", "xyz").returncode == 2
    crl = tmp_path / "other-ca.crl"
    for content in (Authority("card CA").crl(7).public_bytes(Encoding.DER), b"no CRL"):
        crl.write_bytes(content)
        assert bench.gateway.command("revoke", "--crl", str(crl)).returncode == 2
