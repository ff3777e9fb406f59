"""What sits on the bus between processor and TPM: reads along, changes a bit, or answers in the TPM's place.

Run by the TSS library's `cmd` TCTI: SOCKET FOLDER. Each command and its answer become a line of hex in FOLDER/journal.
FOLDER/plan.json says what is done to them, all of it optional: `answer` {number of a command, or its code, or "*":
response code} answers without asking the TPM; `command` or `response` [number, bit] flips a bit of it;
`public` [number, hex] puts another public area into that answer to TPM2_ReadPublic. Numbers count from 0.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from pathlib import Path

_NO_SESSIONS, _HEADER = 0x8001, 10
_FLUSH = 0x165


def interpose(path: str, folder: Path) -> None:
    """Carry one command after the other until the library leaves."""
    plan = json.loads((folder / "plan.json").read_text())
    with socket.socket(socket.AF_UNIX) as tpm, (folder / "journal").open("a") as lines:
        tpm.connect(path)
        number = 0
        while command := _message(0):
            command = _flipped(command, plan.get("command"), number)
            answer = _planned(command, plan.get("answer"), number)
            if answer is None:
                tpm.sendall(command)
                answer = _message(tpm.fileno())
            if plan.get("public", [None])[0] == number:
                answer = _with_public(answer, bytes.fromhex(plan["public"][1]))
            answer = _flipped(answer, plan.get("response"), number)
            lines.write(f"{command.hex()} {answer.hex()}\n")
            lines.flush()
            os.write(1, answer)
            number += 1


def _message(source: int) -> bytes:
    """Read one command or answer: tag, size of the whole, code (part 1, 18)."""
    data = b""
    while len(data) < _HEADER or len(data) < int.from_bytes(data[2:6], "big"):
        wanted = _HEADER if len(data) < _HEADER else int.from_bytes(data[2:6], "big")
        part = os.read(source, wanted - len(data))
        if not part:
            return b""
        data += part
    return data


def _planned(command: bytes, answers: object, number: int) -> bytes | None:
    """What is not asked of the TPM. TPM2_FlushContext always is: else the handles left could not be counted."""
    code = int.from_bytes(command[6:10], "big")
    if not isinstance(answers, dict) or code == _FLUSH:
        return None
    response = answers.get(str(number), answers.get(f"0x{code:X}", answers.get("*")))
    if response is None:
        return None
    return _NO_SESSIONS.to_bytes(2, "big") + _HEADER.to_bytes(4, "big") + int(response).to_bytes(4, "big")


def _flipped(message: bytes, place: object, number: int) -> bytes:
    """One bit of the body, never of the header: an answer of another length would only be waited for."""
    if not isinstance(place, list) or place[0] != number:
        return message
    changed, body = bytearray(message), 8 * (len(message) - _HEADER)
    if body:
        bit = 8 * _HEADER + place[1] % body
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _with_public(answer: bytes, public: bytes) -> bytes:
    """An answer to TPM2_ReadPublic is a TPM2B_PUBLIC, its Name (made to fit), and its qualified Name."""
    after = 12 + int.from_bytes(answer[10:12], "big")
    qualified = answer[after + 2 + int.from_bytes(answer[after : after + 2], "big") :]
    name = public[2:4] + hashlib.sha256(public).digest()
    body = len(public).to_bytes(2, "big") + public + len(name).to_bytes(2, "big") + name + qualified
    return answer[:2] + (len(body) + _HEADER).to_bytes(4, "big") + answer[6:10] + body


if __name__ == "__main__":
    interpose(sys.argv[1], Path(sys.argv[2]))
