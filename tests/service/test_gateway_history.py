"""What the gateway remembers of a box between connections, and within one: rows 6, 15, 29 and the renewal's log."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdbox.attestation.verdict import Clock, Seen
from sdbox.gateway.passes import Pass, Passes
from sdbox.gateway.store import Store, StoreError
from sdbox.protocol import messages as m
from sdbox.protocol.contexts import QUOTE_EXPORTER_LABEL
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.states import ChannelState
from sdbox.protocol.values import BoxId
from tests.service.gateway_bench import Bench, running_bench
from tests.service.gateway_box import PCRS
from tests.service.gateway_site import running_gateway
from tests.service.test_gateway_states import Raw


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def passes(bench: Bench) -> Iterator[Passes]:
    """The gateway's memory, with one pass of the box in it."""
    store = Store(bench.site.database)
    Passes(store).forget(bench.box.box_id)
    attest(bench)
    yield Passes(store)
    store.close()


def attest(bench: Bench) -> None:
    async def way() -> None:
        async with bench.attested():
            pass

    asyncio.run(way())


def last(bench: Bench, passes: Passes) -> Pass:
    known = passes.last(bench.box.box_id)
    assert known is not None
    return known


def keep(bench: Bench, passes: Passes, known: Pass) -> None:
    assert passes.keep(bench.box.box_id, known, after=last(bench, passes))


def refusal(bench: Bench) -> str:
    """Return the failed checks with which the gateway's record refuses the box."""
    with pytest.raises(Refusal) as caught:
        attest(bench)
    assert caught.value.reason is Reason.BOX_EVIDENCE
    return refusals(bench)[-1]


def refusals(bench: Bench) -> list[str]:
    return [event.get("detail", "") for event in bench.gateway.events() if event["event"] == "refused"]


def test_a_box_passes_again_and_again(bench: Bench, passes: Passes) -> None:
    before = last(bench, passes)
    attest(bench)
    after = last(bench, passes)
    assert after.seen.clock.order > before.seen.clock.order
    assert (after.ak_name, after.seen.log_digest) == (before.ak_name, before.seen.log_digest)


def test_row_15_a_tpm_whose_counters_went_back_needs_an_operator(bench: Bench, passes: Passes) -> None:
    known = last(bench, passes)
    clock = known.seen.clock
    later = Clock(clock.clock, clock.reset_count + 1, clock.restart_count, safe=True)
    keep(bench, passes, replace(known, seen=Seen(later, known.seen.log_digest)))
    assert refusal(bench) == "15:clock"
    assert bench.gateway.command("forget-clock", "--box-id", str(bench.box.box_id)).returncode == 0
    attest(bench)


def test_row_15_one_boot_has_one_log(bench: Bench, passes: Passes) -> None:
    known = last(bench, passes)
    keep(bench, passes, replace(known, seen=Seen(known.seen.clock, bytes(32))))
    assert refusal(bench) == "15:same-boot"


def test_row_6_another_attestation_key_needs_an_operator(bench: Bench, passes: Passes) -> None:
    keep(bench, passes, replace(last(bench, passes), ak_name=b"\0\x0b" + bytes(32)))
    assert refusal(bench) == "6:ak-changed"


def test_what_can_not_be_read_is_not_taken_for_nothing(bench: Bench, passes: Passes) -> None:
    with passes._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE passes SET body = '{}'")
    with pytest.raises(StoreError):
        passes.last(bench.box.box_id)
    with pytest.raises(Refusal):
        attest(bench)


def test_row_29_the_age_of_the_last_pass_is_told(bench: Bench, passes: Passes) -> None:
    (line,) = map(json.loads, bench.gateway.command("passes").stdout.splitlines())
    assert line["box"] == str(bench.box.box_id)
    assert 0 <= line["age_seconds"] < 60
    assert line["ak_name"] == last(bench, passes).ak_name.hex()


SHORT = 2.0  # seconds that a result lasts: it is renewed at three fifths


def with_short_results(
    bench: Bench, *, log: bool = False, kept: bool = True, meanwhile: Callable[[], None] = lambda: None
) -> tuple[m.Message, str]:
    """Attest by hand, let `meanwhile` happen, answer Renew with or without the log (`kept`: the same one).

    Returns what is said, and the failed checks of the record's last refusal.
    """

    async def way() -> tuple[m.Message, str]:
        with running_gateway(bench.site, result_seconds=SHORT) as gateway:
            raw = await Raw.connect(bench, gateway.endpoint)
            await raw.reach(ChannelState.ATTESTED)
            await asyncio.to_thread(meanwhile)
            renew = await raw.hear(m.Renew)
            exporter = raw.stream.export(QUOTE_EXPORTER_LABEL, 32)
            evidence = await bench.box.evidence(renew.nonce, exporter, PCRS)
            sent = evidence.event_log if log else b""
            fields = evidence.attest, evidence.signature, evidence.ak_public, sent if kept else sent[:-1]
            await raw.say(m.EvidenceMessage(*fields, evidence.pcrs))
            answer = await raw.hear(m.Message)
            raw.stream.abort()
            return answer, ([""] + [line.get("detail", "") for line in gateway.events() if "reason" in line])[-1]

    return asyncio.run(way())


@pytest.mark.parametrize("log", [False, True])
def test_a_renewal_needs_no_log(bench: Bench, passes: Passes, *, log: bool) -> None:
    before = last(bench, passes)
    answer, _ = with_short_results(bench, log=log)
    assert isinstance(answer, m.Attested)
    assert last(bench, passes).at > before.at  # the channel's first pass; the renewal itself is not written down


def test_a_renewal_with_another_log_is_refused(bench: Bench, passes: Passes) -> None:
    answer, _ = with_short_results(bench, log=True, kept=False)
    assert answer == m.Refused("box-evidence", fatal=True)


@pytest.mark.parametrize(("resets", "later", "check"), [(1, 0, "15:reset"), (0, 10**9, "15:clock")])
def test_row_15_a_channel_ends_when_its_box_was_seen_later_elsewhere(
    bench: Bench, passes: Passes, resets: int, later: int, check: str
) -> None:
    """Of two copies of one TPM, and of a box that was booted again, only what passed last goes on."""

    def pass_elsewhere() -> None:
        known = last(bench, passes)
        clock = known.seen.clock
        clock = replace(clock, clock=clock.clock + later, reset_count=clock.reset_count + resets)
        keep(bench, passes, replace(known, seen=replace(known.seen, clock=clock)))

    answer, detail = with_short_results(bench, meanwhile=pass_elsewhere)
    assert answer == m.Refused("box-evidence", fatal=True)
    assert detail.split()[0] == check


def test_row_6_a_channel_ends_when_its_box_has_another_tpm(bench: Bench, passes: Passes) -> None:
    """As an operator's `forget` and `enrol` leave it; written down at once, as the result is short."""
    box, store = bench.box.box_id, Store(bench.site.database)
    key = rsa.generate_private_key(65537, 2048).public_key()

    def exchange(pem: str) -> None:
        assert store.forget(box)
        passes.forget(box)
        store.enrol(box, pem)

    other = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    try:
        answer, detail = with_short_results(bench, meanwhile=lambda: exchange(other))
        assert answer == m.Refused("box-unknown", fatal=True)
        assert detail == "taken off the inventory, or enrolled with another TPM"
        assert passes.last(box) is None  # the new TPM begins anew
    finally:
        exchange(bench.box.ek_public.read_text())
        store.close()


def test_what_is_remembered_never_goes_back(bench: Bench, passes: Passes) -> None:
    """A pass counts only after the one that it was judged against: two that are judged at once do not both."""
    first = last(bench, passes)
    attest(bench)
    now = last(bench, passes)
    for before in (first, None):
        assert not passes.keep(bench.box.box_id, first, after=before)
    assert last(bench, passes) == now
    other = BoxId(uuid.uuid4())
    assert not passes.keep(other, first, after=now)
    assert passes.keep(other, first, after=None)
    assert passes.forget(other)
