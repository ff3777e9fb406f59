"""What the initrd measured, as it noted it (image/initrd/measure.c), put behind the firmware's event log.

The notes prove nothing: a quote does. They only say which data the PCRs were extended with.
"""

from __future__ import annotations

import re
import struct

from sdbox.boot.pcr import ALGORITHM_IDS, PCR_COUNT

MAX_NOTES = 1024
_LINE = re.compile(rb"(1?[0-9]|2[0-3]) ([0-9]{1,10}) ((?:[0-9a-f]{2}){1,128})")
_SPEC_ID = b"Spec ID Event03\0"
_DATA = 32  # where the data of the first record begins (TCG_PCR_EVENT)
_ALGORITHMS = _DATA + len(_SPEC_ID) + struct.calcsize("<IBBBB")


def with_notes(log: bytes, notes: bytes) -> bytes:
    """Return `log` and one TCG_PCR_EVENT2 for each line of `notes`: PCR, type, data in hex.

    A digest for each bank that the log's Spec ID event announces and this Python can hash. A log without one, which
    holds SHA-1 only, is returned as it is. ValueError if the notes are not the initrd's.
    """
    if len(notes) > MAX_NOTES or (notes and not notes.endswith(b"\n")):
        raise ValueError("the initrd's notes are too long, or cut")
    banks = _banks(log)
    return log + b"".join(_record(line, banks) for line in notes.splitlines()) if banks else log


def _record(line: bytes, banks: tuple[int, ...]) -> bytes:
    found = _LINE.fullmatch(line)
    if found is None or int(found[2]) > 0xFFFFFFFF or int(found[1]) >= PCR_COUNT:
        raise ValueError("a line of the initrd's notes is malformed")
    data = bytes.fromhex(found[3].decode("ascii"))
    digests = [struct.pack("<H", number) + digest for number in banks if (digest := _digest(number, data))]
    head = struct.pack("<III", int(found[1]), int(found[2]), len(digests))
    return head + b"".join(digests) + struct.pack("<I", len(data)) + data


def _digest(number: int, data: bytes) -> bytes:
    """Empty for a bank that is unknown here: the verifier tolerates its absence, as it is not quoted."""
    try:
        return ALGORITHM_IDS[number].digest(data)
    except (KeyError, ValueError):
        return b""


def _banks(log: bytes) -> tuple[int, ...]:
    """Return the algorithms of the Spec ID event (PC Client Platform Firmware Profile 1.06, 10.4.5.1), none if none."""
    if not log.startswith(_SPEC_ID, _DATA) or len(log) < _ALGORITHMS + 4:
        return ()
    (count,) = struct.unpack_from("<I", log, _ALGORITHMS)
    end = _ALGORITHMS + 4 + 4 * count
    if count > len(ALGORITHM_IDS) * 2 or end > len(log):
        return ()
    return tuple(number for number, _ in struct.iter_unpack("<HH", log[_ALGORITHMS + 4 : end]))
