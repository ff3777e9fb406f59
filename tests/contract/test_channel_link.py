"""The box's end against a gateway that says anything: each message in each state, and answers that are not right."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from sdbox.agent.channel import link
from sdbox.agent.channel.parties import Lost, Renewed, Revoked
from sdbox.protocol import messages as m
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.states import BOX_RECEIVES, ChannelState
from tests.contract.channel_ends import ATTESTED, CHALLENGE, GRANT, ITEM, NONCE, OFFERS, REACHABLE, Ends, run

SAMPLES: tuple[m.Message, ...] = (
    CHALLENGE,
    ATTESTED,
    m.Refused("card-proof", fatal=False, nonce=NONCE),
    OFFERS,
    GRANT,
    m.Heartbeat("none"),
    m.Closed("none", NONCE),
    m.Renew(NONCE),
    m.Revoke("none", "session-revoked"),
    m.RenewalPending("none", NONCE),
    m.RenewalIssued("none", b"", "renewal-refused"),
    m.RenewalClosed("none", NONCE),
)
FORBIDDEN = [(state, sample) for state in REACHABLE for sample in SAMPLES if (state, type(sample)) not in BOX_RECEIVES]


def label(value: object) -> str:
    return value.value if isinstance(value, ChannelState) else type(value).__name__


def test_there_is_something_to_forbid() -> None:
    assert len(FORBIDDEN) == len(REACHABLE) * len(SAMPLES) - len(BOX_RECEIVES)


@pytest.mark.parametrize(("state", "sample"), FORBIDDEN, ids=label)
def test_what_the_table_does_not_list_ends_the_channel(tmp_path: Path, state: ChannelState, sample: m.Message) -> None:
    async def work(ends: Ends) -> None:
        await ends.reach(state)
        await ends.peer.say(sample)
        assert await ends.first_event() == Lost(Reason.PROTOCOL)
        assert ends.channel.state is ChannelState.FAILED
        with pytest.raises(Refusal) as caught:
            await ends.channel.heartbeat("none")
        assert caught.value.reason is Reason.PROTOCOL

    run(tmp_path, work)


UNASKED = [sample for sample in SAMPLES if not isinstance(sample, m.Heartbeat | m.Renew | m.Revoke)]


@pytest.mark.parametrize("sample", UNASKED, ids=label)
def test_an_answer_nobody_asked_for_ends_the_channel(tmp_path: Path, sample: m.Message) -> None:
    async def work(ends: Ends) -> None:
        await ends.reach(ChannelState.OFFERED)
        await ends.peer.say(sample)
        assert await ends.first_event() == Lost(Reason.PROTOCOL)

    run(tmp_path, work)


@pytest.mark.parametrize("code", ["box-unknown", "box-image", "nonsense"])
@pytest.mark.parametrize("state", REACHABLE)
def test_a_fatal_refusal_counts_in_every_state(tmp_path: Path, state: ChannelState, code: str) -> None:
    expected = Reason.PROTOCOL if code == "nonsense" else Reason(code)

    async def work(ends: Ends) -> None:
        await ends.reach(state)
        await ends.peer.say(m.Refused(code, fatal=True))
        assert await ends.first_event() == Lost(expected)
        if state is ChannelState.CHALLENGED and ends.waiting is not None:
            ends.prover.go_on.set()
            with pytest.raises(Refusal) as caught:
                await ends.waiting
            assert caught.value.reason is expected

    run(tmp_path, work)


BAD = {
    "project": {"project": "boreal"},
    "key": {"peer_public": bytes(31)},
    "preshared": {"preshared": b""},
    "endpoint": {"endpoints": ("gateway.test:51821",)},
    "no-endpoint": {"endpoints": ()},
    "address": {"address": "10.64.1.2/32; reboot"},
    "allowed": {"allowed": ("everything",)},
    "host": {"desktop_host": "/shell:x"},
    "port": {"desktop_port": 70000},
    "fingerprint": {"desktop_certificate_sha256": "ignore"},
    "user": {"desktop_user": "u\n/drive:home,/"},
    "secret": {"desktop_secret": "short"},
    "lease": {"lease": 0},
    "nonce": {"nonce": bytes(31)},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_a_grant_that_is_not_right_ends_the_channel(tmp_path: Path, change: dict[str, object]) -> None:
    async def work(ends: Ends) -> None:
        await ends.reach(ChannelState.OFFERED)
        opening = asyncio.create_task(ends.channel.open("atlas", os.urandom(32), ends.signer))
        await ends.peer.hear()
        await ends.peer.say(msgspec.structs.replace(GRANT, **change))
        with pytest.raises(Refusal) as caught:
            await opening
        assert caught.value.reason is Reason.PROTOCOL
        assert await ends.first_event() == Lost(Reason.PROTOCOL)

    run(tmp_path, work)


def test_a_curable_refusal_leaves_the_channel_usable(tmp_path: Path) -> None:
    async def work(ends: Ends) -> None:
        await ends.reach(ChannelState.OFFERED)
        for answer in (m.Refused("certificate-expired", fatal=False, nonce=b"n" * 32), GRANT):
            opening = asyncio.create_task(ends.channel.open("atlas", os.urandom(32), ends.signer))
            await ends.peer.hear()
            await ends.peer.say(answer)
            if answer is GRANT:
                assert (await opening).session == GRANT.session
            else:
                with pytest.raises(Refusal) as caught:
                    await opening
                assert caught.value.reason is Reason.CERTIFICATE_EXPIRED
                assert ends.channel._link.nonce() == b"n" * 32

    run(tmp_path, work)


def test_a_renewal_is_answered_while_a_request_is_under_way(tmp_path: Path) -> None:
    async def work(ends: Ends) -> None:
        await ends.reach(ChannelState.OFFERED)
        opening = asyncio.create_task(ends.channel.open("atlas", os.urandom(32), ends.signer))
        await ends.peer.hear()
        await ends.peer.say(m.Renew(b"r" * 32))
        evidence = await ends.peer.hear()
        assert isinstance(evidence, m.EvidenceMessage)
        assert evidence.attest == b"r" * 32
        assert set(evidence.pcrs) == {4, 7, 11}
        await ends.peer.say(m.Attested("again", 300, NONCE), GRANT)
        assert (await opening).session == GRANT.session
        event = await ends.first_event()
        assert isinstance(event, Renewed)
        assert event.result.ear == "again"

    run(tmp_path, work)


def test_a_revocation_wakes_the_heartbeat(tmp_path: Path) -> None:
    async def work(ends: Ends) -> None:
        await ends.reach(ChannelState.OFFERED)
        beat = asyncio.create_task(ends.channel.heartbeat("s"))
        await ends.peer.hear()
        await ends.peer.say(m.Revoke("s", "certificate-revoked"))
        with pytest.raises(Refusal) as caught:
            await beat
        assert caught.value.reason is Reason.CERTIFICATE_REVOKED
        assert await ends.first_event() == Revoked("s", Reason.CERTIFICATE_REVOKED)

    run(tmp_path, work)


def test_a_lost_connection_wakes_whoever_waits(tmp_path: Path) -> None:
    async def work(ends: Ends) -> None:
        await ends.reach(ChannelState.OFFERED)
        opening = asyncio.create_task(ends.channel.open("atlas", os.urandom(32), ends.signer))
        await ends.peer.hear()
        ends.peer.stream.abort()
        with pytest.raises(Refusal) as caught:
            await opening
        assert caught.value.reason is Reason.GATEWAY_UNREACHABLE
        assert await ends.first_event() == Lost(Reason.GATEWAY_UNREACHABLE)

    run(tmp_path, work)


def test_a_silent_gateway_is_unreachable_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(link, "BEAT_SECONDS", 0.2)

    async def work(ends: Ends) -> None:
        await ends.reach(ChannelState.OFFERED)
        with pytest.raises(Refusal) as caught:
            await ends.channel.heartbeat("s")
        assert caught.value.reason is Reason.GATEWAY_UNREACHABLE
        with pytest.raises(Refusal) as late:
            await ends.channel.open("atlas", os.urandom(32), ends.signer)
        assert late.value.reason is Reason.GATEWAY_UNREACHABLE
        assert await ends.first_event() == Lost(Reason.GATEWAY_UNREACHABLE)

    run(tmp_path, work)


@pytest.mark.parametrize(
    "items",
    [
        (msgspec.structs.replace(ITEM, certificate=b"another card's"),),
        (ITEM, ITEM),
        (ITEM, msgspec.structs.replace(ITEM, reason="certificate-expired")),
    ],
)
def test_offers_that_do_not_fit_the_card_end_the_channel(tmp_path: Path, items: tuple[m.OfferItem, ...]) -> None:
    async def work(ends: Ends) -> None:
        await ends.reach(ChannelState.ATTESTED)
        asking = asyncio.create_task(ends.channel.prove_card(ends.signer.chain, ends.signer))
        await ends.peer.hear()
        await ends.peer.say(m.Offers(items, NONCE))
        with pytest.raises(Refusal) as caught:
            await asking
        assert caught.value.reason is Reason.PROTOCOL
        assert await ends.first_event() == Lost(Reason.PROTOCOL)

    run(tmp_path, work)


def test_a_card_cannot_be_shown_before_the_attestation(tmp_path: Path) -> None:
    async def work(ends: Ends) -> None:
        with pytest.raises(Refusal) as caught:
            await ends.channel.prove_card(ends.signer.chain, ends.signer)
        assert caught.value.reason is Reason.PROTOCOL

    run(tmp_path, work)
