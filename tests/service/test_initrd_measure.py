"""The initrd's own TPM command, byte by byte: a real software TPM takes it, and a bent answer to it is refused."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from sdbox.boot.pcr import Bank, extend
from sdbox.image.initrd import COMPILE
from tests.service.swtpm_fixture import manufacture, running_swtpm

INITRD = Path(__file__).parents[2] / "image" / "initrd"
WORD = "leave-initrd"
BANKS = (Bank.SHA1, Bank.SHA256, Bank.SHA384)
DIGESTS = struct.pack(">H", 4) + bytes(20) + struct.pack(">H", 0x0B) + bytes(32)
EXTENDED = (0, "extended\n")
SESSION = b"\0\0\x01\0\0"
PARAMETERS = struct.pack(">I", 2) + DIGESTS


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The measuring part with a main of its own, compiled as the image build does."""
    out = tmp_path_factory.mktemp("measure") / "measure"
    sources = [INITRD / "measure.c", Path(__file__).with_name("initrd_measure.c")]
    subprocess.run([*COMPILE, f"-I{INITRD}", "-o", out, *sources], check=True, capture_output=True, timeout=60)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    manufacture(state, banks=BANKS)
    return state


def measured(program: Path, address: Path) -> tuple[int, str]:
    """Return the exit status and what the program refused."""
    command = [str(program), str(address), "11", WORD]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout


def pcr_11(tcti: str, bank: Bank, out: Path) -> bytes:
    command = ["tpm2_pcrread", "--tcti", tcti, f"{bank}:11", "--output", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return out.read_bytes()


def test_every_bank_is_extended_with_the_digest_of_the_word(program: Path, folder: Path, tmp_path: Path) -> None:
    with running_swtpm(folder) as tcti:
        assert measured(program, folder / "commands") == EXTENDED
        for bank in BANKS:
            wanted = extend(bank, bytes(bank.size), bank.digest(WORD.encode()))
            assert pcr_11(tcti, bank, tmp_path / bank) == wanted


def answer(parameters: bytes, session: bytes = SESSION, *, code: int = 0, tag: int = 0x8002) -> bytes:
    body = struct.pack(">I", len(parameters)) + parameters + session
    return struct.pack(">HII", tag, 10 + len(body), code) + body


GOOD = answer(PARAMETERS)
UNKNOWN_BANK = struct.pack(">IH", 1, 0x99) + bytes(32)
BENT = {
    "a refusal": struct.pack(">HII", 0x8001, 10, 0x922),
    "a refusal in the form of a success": answer(PARAMETERS, code=0x184),
    "nothing": b"\x80",
    "cut": GOOD[:-1],
    "cut, with its size right": answer(PARAMETERS[:-1]),
    "longer than it says": GOOD + b"\0",
    "longer, with its size right": answer(PARAMETERS, SESSION + b"\0"),
    "without a session": answer(PARAMETERS, b"", tag=0x8001),
    "without any bank": answer(struct.pack(">I", 0)),
    "without SHA-256": answer(struct.pack(">IH", 1, 4) + bytes(20)),
    "more banks than digests": answer(struct.pack(">I", 3) + DIGESTS),
    "fewer banks than digests": answer(struct.pack(">I", 1) + DIGESTS),
    "a bank nobody knows": answer(UNKNOWN_BANK),
    "millions of banks": answer(struct.pack(">I", 0xFFFFFFFF) + DIGESTS),
    "a nonce in the session": answer(PARAMETERS, b"\0\x01x\x01\0\0"),
    "a key in the session": answer(PARAMETERS, b"\0\0\x01\0\x01x"),
    "an audit session": answer(PARAMETERS, b"\0\0\x81\0\0"),
}


def asked(program: Path, folder: Path, reply: bytes) -> tuple[tuple[int, str], bytes]:
    """Run the program against a TPM that gives this answer; return also what it was asked."""
    heard: list[bytes] = []

    def serve() -> None:
        client, _ = server.accept()
        with client:
            heard.append(client.recv(4096))
            client.sendall(reply)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "tpm"))
        server.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        result = measured(program, folder / "tpm")
        thread.join(10)
    return result, heard[0]


def test_the_command_is_one_pcr_event_with_an_empty_password(program: Path, tmp_path: Path) -> None:
    result, command = asked(program, tmp_path, GOOD)
    assert result == EXTENDED
    password = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
    event = struct.pack(">H", len(WORD)) + WORD.encode()
    rest = struct.pack(">I", 11) + password + event
    assert command == struct.pack(">HII", 0x8002, 10 + len(rest), 0x0000013C) + rest


def test_failure_mode_is_left_to_the_agent_to_tell(program: Path, tmp_path: Path) -> None:
    result, _ = asked(program, tmp_path, struct.pack(">HII", 0x8001, 10, 0x101))
    assert result == (0, "failure mode\n")


@pytest.mark.parametrize("reply", BENT.values(), ids=BENT.keys())
def test_an_answer_that_is_not_exactly_a_success_is_refused(program: Path, tmp_path: Path, reply: bytes) -> None:
    status, text = asked(program, tmp_path, reply)[0]
    assert status == 1
    assert text.startswith("tpm: ")
