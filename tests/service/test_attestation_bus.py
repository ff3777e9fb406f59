"""Who sits between processor and TPM (checklist 34), and a TPM that does not work: it is named, nothing is left."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.attestation.appraisal import Expected, appraise
from sdbox.attestation.structures import name_of
from sdbox.attestation.templates import EK_TEMPLATE
from sdbox.attestation.tpm import open_tpm
from sdbox.boot.reference import ReferenceValues
from sdbox.protocol.reasons import Reason, Refusal
from tests.service.swtpm_fixture import manufacture, running_swtpm
from tests.service.tpm_bus import BOX, REQUEST, Bus, Proof
from tests.unit.boot_log_factory import agile_log

START, CREATE, ACTIVATE, QUOTE, FLUSH, READ_PUBLIC = 0x176, 0x131, 0x147, 0x158, 0x165, 0x173


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    folder = tmp_path_factory.mktemp("bus")
    manufacture(folder / "state")
    with running_swtpm(folder / "state") as direct:
        bus = Bus.to(direct, folder / "interposer")
        (bus.folder / "log").write_bytes(agile_log())
        yield bus


@pytest.fixture
def bus(shared: Bus) -> Bus:
    shared.clean()
    shared.plan()
    return shared


@pytest.fixture
def own_bus(tmp_path: Path) -> Iterator[Bus]:
    """A TPM that a test may spoil."""
    manufacture(tmp_path / "state")
    with running_swtpm(tmp_path / "state") as direct:
        yield Bus.to(direct, tmp_path / "interposer")


def code(command: bytes) -> int:
    return int.from_bytes(command[6:10], "big")


def reason(bus: Bus) -> Reason:
    with pytest.raises(Refusal) as caught:
        bus.prove()
    return caught.value.reason


def accepted(proof: Proof) -> bool:
    """As the centre judges it, with the PCRs of this TPM: all at zero."""
    values = {str(index): bytes(32).hex() for index in REQUEST.pcrs}
    reference = ReferenceValues(REQUEST.pcrs, {"sha256": values})
    expected = Expected(REQUEST.nonce, REQUEST.exporter, BOX, reference, name_of(proof.evidence.ak_public))
    return proof.activated and appraise(proof.evidence, expected).accepted


def test_who_reads_the_bus_sees_no_secret(bus: Bus) -> None:
    assert accepted(bus.prove())
    wire = b"".join(command + answer for command, answer in bus.traffic())
    assert bytes(32) in wire, "what is no secret is seen: PCR 4 at zero"
    assert not any(bus.secret[at : at + 4] in wire for at in range(29))


def test_the_one_session_with_a_key_is_salted_and_the_secret_travels_in_it(bus: Bus) -> None:
    bus.prove()
    started = [command for command, _ in bus.traffic() if code(command) == START]
    salts = [int.from_bytes(command[18 + 34 : 18 + 36], "big") for command in started]
    assert salts == [256, 0], "the HMAC session, then the EK's policy session, which carries nothing"
    activation = next(command for command, _ in bus.traffic() if code(command) == ACTIVATE)
    # Two handles, the size of the authorizations, then of the first: handle, nonce, attributes (part 2, 8.4).
    nonce = int.from_bytes(activation[26:28], "big")
    assert activation[28 + nonce] & 0x60 == 0x60, "decrypt and encrypt"


@pytest.mark.parametrize("side", ["command", "response"])
def test_a_flipped_bit_is_noticed(bus: Bus, side: str) -> None:
    """By the box, or for what is not secret by the centre: nobody is told anything else than the TPM said."""
    honest, chance = bus.prove(), random.Random(34)
    codes = [code(command) for command, _ in bus.traffic()]
    for number, number_code in enumerate(codes):
        bus.plan(**{side: [number, chance.randrange(1 << 16)]})
        try:
            proof = bus.prove()
        except Refusal:
            continue
        else:
            assert number_code not in {CREATE, ACTIVATE, QUOTE}, "in the session"
            shown = replace(proof.evidence, attest=b"", signature=b"")
            same = shown == replace(honest.evidence, attest=b"", signature=b"")
            assert same or not accepted(proof), number_code
        finally:
            bus.clean()


@pytest.mark.parametrize("which", [0, 1])
def test_another_key_in_the_place_of_the_endorsement_key_is_noticed(bus: Bus, which: int) -> None:
    """The library asks for the public area, then we do: whichever is answered with the interposer's own key."""
    bus.prove()
    asked = [number for number, (command, _) in enumerate(bus.traffic()) if code(command) == READ_PUBLIC]
    own = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    bus.plan(public=[asked[which], (EK_TEMPLATE[:-256] + own.to_bytes(256, "big")).hex()])
    assert reason(bus) is Reason.BOX_TPM_BUS
    assert ACTIVATE not in {code(command) for command, _ in bus.traffic()}


def test_nothing_is_left_in_the_tpm(bus: Bus) -> None:
    bus.prove()
    assert bus.left() == []
    commands = [code(command) for command, _ in bus.traffic()]
    for number in (number for number, one in enumerate(commands) if one != FLUSH):
        bus.plan(answer={str(number): 0x904})
        with pytest.raises(Refusal):
            bus.prove()
        assert bus.left() == [], f"command {number} failed"


def test_at_most_one_session_and_the_policy_are_open(bus: Bus) -> None:
    """A TPM must have room for three objects and three sessions, no more (PTP 1.05, 4.5); others use it as well."""
    bus.prove()
    open_now = most = 0
    for command, answer in bus.traffic():
        if code(command) in {START, CREATE} and answer[6:10] == bytes(4):
            open_now += 1
        open_now -= code(command) == FLUSH
        most = max(most, open_now)
    assert most <= 3


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (0x922, Reason.BOX_TPM_BUSY),
        (0x908, Reason.BOX_TPM_BUSY),
        (0x90A, Reason.BOX_TPM_BUSY),
        (0x903, Reason.BOX_TPM_BUSY),
        (0xC0902, Reason.BOX_TPM_BUSY),
        (0x921, Reason.BOX_TPM_LOCKOUT),
        (0x101, Reason.BOX_TPM_FAILURE),
        (0x100, Reason.BOX_TPM_FAILURE),
        (0x120, Reason.BOX_TPM_DISABLED),
        (0x143, Reason.BOX_TPM),
    ],
)
def test_a_tpm_that_always_answers_so(bus: Bus, response: int, expected: Reason) -> None:
    bus.plan(answer={"*": response})
    assert reason(bus) is expected


def test_a_tpm_that_is_busy_for_a_moment_is_waited_for(bus: Bus) -> None:
    bus.plan(answer={"0": 0x922, "1": 0x90A, "4": 0x908})
    assert bus.prove().activated


def test_an_endorsement_hierarchy_that_is_off_is_named(own_bus: Bus) -> None:
    own_bus.tool("tpm2_hierarchycontrol", "-C", "p", "ehEnable", "clear")
    assert reason(own_bus) is Reason.BOX_TPM_DISABLED
    assert own_bus.left() == []


def test_an_endorsement_hierarchy_with_a_password_is_named(own_bus: Bus) -> None:
    own_bus.tool("tpm2_changeauth", "-c", "e", "somebody's")
    assert reason(own_bus) is Reason.BOX_TPM_DISABLED
    assert own_bus.left() == []


def test_a_tpm_in_lockout_still_attests(own_bus: Bus) -> None:
    """None of our keys has a password to try: whoever locks the TPM on purpose does not lock the box out."""
    own_bus.tool("tpm2_dictionarylockout", "-s", "-n", "1", "-t", "9999", "-l", "9999")
    own_bus.tool("tpm2_nvdefine", "0x1500000", "-C", "o", "-s", "8", "-p", "right", "-a", "authread|authwrite")
    for password in ("wrong", "right"):
        own_bus.tool("tpm2_nvread", "0x1500000", "-C", "0x1500000", "-P", password, fails=True)
    assert "inLockout:                 1" in own_bus.tool("tpm2_getcap", "properties-variable")
    assert own_bus.prove().activated


def test_a_device_that_is_not_there_is_absent(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught, open_tpm(f"device:{tmp_path / 'tpmrm0'}"):
        pass
    assert caught.value.reason is Reason.BOX_TPM_ABSENT
