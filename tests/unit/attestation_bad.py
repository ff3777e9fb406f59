"""One table for the verifier's checklist: row, the one code that must show, and what is bent to make it show."""
# ruff: noqa: E501 - a case is a line

from __future__ import annotations

import hashlib
import struct
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from sdbox.attestation.policy import Policy
from sdbox.attestation.structures import name_of
from sdbox.attestation.verdict import Clock, Seen
from sdbox.boot.firmware import FirmwareProfile
from sdbox.boot.reference import ReferenceValues
from sdbox.boot.secureboot import signature_list, variable_event
from sdbox.protocol.contexts import qualifying_data
from sdbox.protocol.values import BoxId, Evidence
from tests.unit import attestation_factory as f
from tests.unit.attestation_factory import RECORDS, Forge, ak_public, changed, selection, variable, without
from tests.unit.boot_log_factory import SPEC_ID, Record, agile_log, old_record

REFERENCE = f.reference()
WITHOUT_15 = tuple(index for index in f.PCRS if index != 15)  # as of an image whose initrd measures nothing
PROFILE = FirmwareProfile("bench", {"0": f.values_of(f.LOG, (0,))[0].hex(), "2": f.values_of(f.LOG, (2,))[2].hex()})
WITH_FIRMWARE = (0, 1, 2, 3, *f.PCRS)
LOG_1_3 = agile_log(*RECORDS, Record(1, 4, bytes(4)), Record(3, 4, bytes(4)))


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad input. `expects` are changes to `Expected`, `after` changes to the finished evidence."""

    row: int
    code: str
    what: str
    forge: Forge = Forge()  # noqa: RUF009 - frozen
    expects: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)

    def evidence(self) -> Evidence:
        return replace(self.forge.evidence(), **self.after)


def key(public: bytes, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of Bad
    return {"forge": Forge(public=public), "expects": {"ak_name": name_of(public)}, **changes}


def logged(*records: Record, **changes: Any) -> Forge:  # noqa: ANN401 - any field of Forge
    return Forge(log=agile_log(*records), **changes)


def unmeasured(log: bytes) -> Forge:
    """A log the box shows, while its TPM holds the honest boot."""
    return Forge(log=log, values=f.VALUES)


def policy(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of Policy
    return {"policy": Policy(**changes)}


def before(*clock: int, digest: bytes | None = None) -> Seen:
    time, resets, restarts, safe = clock
    return Seen(Clock(time, resets, restarts, safe=bool(safe)), digest)


def referring(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of ReferenceValues
    return {"reference": msgspec.structs.replace(REFERENCE, **changes)}


def unexpected(index: int) -> dict[str, Any]:
    """A reference that lets a PCR of the image be anything."""
    values = {key: value for key, value in REFERENCE.pcrs["sha256"].items() if key != str(index)}
    return referring(pcrs={"sha256": values}, advisory=(5, 15, index), rules=0)


GOOD = f.evidence()
OTHER_NAME = b"\0\x0b" + bytes(32)
FLIPPED = GOOD.signature[:-1] + bytes([GOOD.signature[-1] ^ 1])
OFF_CURVE = ak_public()[:-1] + bytes([ak_public()[-1] ^ 1])
SHA1_KEY = ak_public(scheme=(f.ECDSA, 0x0004))
MINIMUM = {"dbx_minimum": (f.REVOKED.hex(),)}
BITS = {"fixedTPM": 1, "fixedParent": 4, "sensitiveDataOrigin": 5, "restricted": 16, "sign": 18}
SHA384_ONLY = SPEC_ID.replace(b"\x0b\0\x20\0", b"\x0c\0\x30\0")
NOTHING: dict[str, Any] = {  # measured: all PCRs are zero, so that only the form of the log is wrong
    "pcr_selection": WITHOUT_15,
    "advisory": (5,),
    "rules": 0,
    "events": {},
    "pcrs": {"sha256": dict.fromkeys(REFERENCE.pcrs["sha256"], "00" * 32)},
}
EVENT = struct.pack("<IIIH", 4, 4, 1, 0x000B) + bytes(32) + struct.pack("<I", 4) + bytes(4)

KEYS_AND_FORMS = (
    *(Bad(4, "ak-attributes", f"not {name}", **key(ak_public(f.AK_ATTRIBUTES & ~(1 << bit)))) for name, bit in BITS.items()),
    Bad(4, "ak-attributes", "decrypts", **key(ak_public(f.AK_ATTRIBUTES | 1 << 17))),
    Bad(4, "ak-name", "not the activated key", expects={"ak_name": name_of(ak_public(f.AK_ATTRIBUTES | 1 << 7))}),
    Bad(6, "ak-changed", "another key than always", expects={"enrolled_ak": OTHER_NAME}),
    Bad(6, "ak-changed", "another key than always, none activated", expects={"enrolled_ak": OTHER_NAME, "ak_name": None}),
    Bad(8, "malformed-attest", "byte behind the quote", Forge(tail=b"\0")),
    Bad(8, "malformed-attest", "safe of 2", Forge(clock=(1000, 5, 1, 2))),
    Bad(8, "malformed-attest", "huge quote", Forge(tail=bytes(4096))),
    Bad(8, "malformed-attest", "many selections", Forge(selections=(selection(4),) * 17)),
    Bad(8, "malformed-attest", "long selection", Forge(selections=(struct.pack(">HB", f.SHA256, 5) + bytes(5),))),
    Bad(8, "malformed-signature", "byte behind the signature", after={"signature": GOOD.signature + b"\0"}),
    Bad(8, "malformed-signature", "cut signature", after={"signature": GOOD.signature[:-1]}),
    Bad(8, "malformed-signature", "r of 64 bytes", after={"signature": GOOD.signature[:4] + f.sized(bytes(32) + GOOD.signature[6:38]) + GOOD.signature[38:]}),
    Bad(8, "malformed-ak-public", "byte behind the key", after={"ak_public": ak_public() + b"\0"}),
    Bad(8, "malformed-ak-public", "a point off the curve", **key(OFF_CURVE)),
    Bad(8, "malformed-eventlog", "huge log", after={"event_log": bytes((1 << 20) + 1)}),
    *(Bad(9, "not-a-quote", f"kind 0x{kind:X}", Forge(kind=kind)) for kind in (0x8017, 0x8014)),
    Bad(9, "not-a-quote", "magic", Forge(magic=0xFF544348)),
    Bad(10, "signature", "by nobody", after={"signature": FLIPPED}),
    Bad(10, "signature", "over another quote", after={"attest": Forge(clock=(1001, 5, 1, 1)).attest()}),
    Bad(10, "signature-scheme", "SHA-384 instead of the key's", after={"signature": f.sign(GOOD.attest, (f.ECDSA, 0x000C))}),
    Bad(10, "signature-scheme", "SHA-1, the key's own", **key(SHA1_KEY, after={"signature": f.sign(Forge(public=SHA1_KEY).attest(), (f.ECDSA, 4))})),
    Bad(11, "qualifying-data", "replayed nonce", expects={"nonce": b"m" * 32}),
    Bad(11, "qualifying-data", "relayed channel (row 7)", expects={"exporter": b"f" * 32}),
    Bad(11, "qualifying-data", "another box", expects={"box_id": BoxId(uuid.UUID(int=7))}),
    Bad(11, "qualifying-data", "a log that was not bound", after={"event_log": agile_log(*RECORDS, Record(14, 13, b"x"))}),
)  # fmt: skip

QUOTES = (
    Bad(12, "pcr-selection", "fewer", Forge(quoted=(4, 7))),
    Bad(12, "pcr-selection", "more", Forge(quoted=(4, 5, 7, 8, 11, 12, 13, 15))),
    Bad(12, "pcr-selection", "a second one", Forge(selections=(selection(*f.PCRS), selection(bank=4)))),
    Bad(12, "pcr-selection", "another bank, the same bytes", Forge(selections=(selection(*f.PCRS, bank=0x27),))),
    Bad(13, "pcr-digest", "values it is not over", Forge(pcr_digest=bytes(32))),
    Bad(13, "pcr-values", "one missing", Forge(shown={i: v for i, v in f.VALUES.items() if i != 11}, values=f.VALUES)),
    Bad(13, "pcr-values", "one too many", Forge(shown={**f.VALUES, 8: bytes(32)}, values=f.VALUES)),
    *(
        Bad(
            14,
            "pcr-resettable",
            f"PCR {index}",
            Forge(quoted=(*f.PCRS, index)),
            referring(
                pcr_selection=(*f.PCRS, index),
                pcrs={"sha256": {**REFERENCE.pcrs["sha256"], str(index): f.values_of(f.LOG, (index,))[index].hex()}},
                rules=0,
            ),
        )
        for index in (16, 21, 22, 23)
    ),
    Bad(15, "clock", "time went back", Forge(clock=(999, 5, 1, 1)), {"previous": before(1000, 5, 1, 1)}),
    Bad(15, "clock", "restarts went back", Forge(clock=(1001, 5, 0, 1)), {"previous": before(1000, 5, 1, 1)}),
    Bad(15, "clock", "resets went back", Forge(clock=(1001, 4, 9, 1)), {"previous": before(1000, 5, 1, 1)}),
    Bad(15, "clock", "unsafe in the same boot", Forge(clock=(1001, 5, 1, 0)), {"previous": before(1000, 5, 1, 1)}),
    Bad(15, "clock", "power cut replayed", Forge(clock=(900, 6, 0, 0)), {"previous": before(950, 6, 0, 0)}),
    Bad(15, "clock", "clean reboot replayed", Forge(clock=(1001, 6, 0, 1)), {"previous": before(1000, 6, 1, 1)}),
    Bad(15, "same-boot", "another log", expects={"previous": before(900, 5, 1, 1, digest=bytes(32))}),
    Bad(15, "reset", "on an open channel", Forge(clock=(1001, 6, 0, 1)), {"previous": before(1000, 5, 1, 1), "connected": True}),
    Bad(16, "tpm-firmware", "not allowed", expects=policy(tpm_firmware=("0" * 16,))),
    Bad(16, "qualified-signer", "below another parent", Forge(signer=OTHER_NAME)),
    Bad(16, "qualified-signer", "below another parent, no key activated", Forge(signer=OTHER_NAME), {"ak_name": None}),
)  # fmt: skip

LOGS = (
    Bad(17, "eventlog", "stray byte", unmeasured(f.LOG + b"\x01")),
    Bad(17, "eventlog", "cut", unmeasured(f.LOG[:-1])),
    Bad(17, "eventlog", "unlisted algorithm", unmeasured(f.LOG + EVENT.replace(b"\x0b\0", b"\x0c\0", 1))),
    Bad(17, "eventlog", "Spec ID in PCR 7", unmeasured(f.LOG.replace(bytes(4), b"\x07\0\0\0", 1))),
    Bad(17, "eventlog", "Spec ID of another version", unmeasured(agile_log(*RECORDS, spec_id=SPEC_ID[:21] + b"\xff" + SPEC_ID[22:]))),
    Bad(17, "eventlog-bank", "SHA-384 only", Forge(log=agile_log(spec_id=SHA384_ONLY), quoted=WITHOUT_15), referring(**NOTHING)),
    Bad(17, "eventlog-no-spec-id", "SHA-1, the old format", Forge(log=old_record(14, 4, bytes(4)), quoted=WITHOUT_15), referring(**NOTHING)),
    Bad(17, "eventlog-padding", "padding", unmeasured(f.LOG + bytes(64))),
    Bad(17, "eventlog-unknown-type", "unknown type", unmeasured(agile_log(*RECORDS, Record(14, 0x1234, b"")))),
    Bad(17, "eventlog-repeated-spec-id", "another Spec ID", unmeasured(agile_log(*RECORDS, Record(0, 3, SPEC_ID)))),
    Bad(17, "eventlog-unknown", "left out, never sent", Forge(qualifying=qualifying_data(f.NONCE, f.EXPORTER, f.BOX.bytes, b"x")),
        {"log_digest": hashlib.sha256(b"x").digest()}, {"event_log": b""}),
    Bad(18, "eventlog-replay", "event missing", unmeasured(agile_log(*without(f.place_of("left"))))),
    Bad(18, "eventlog-replay", "event added", unmeasured(agile_log(*RECORDS, Record(4, 13, b"x")))),
    Bad(18, "eventlog-replay", "events swapped", unmeasured(agile_log(RECORDS[1], RECORDS[0], *RECORDS[2:4], RECORDS[5], RECORDS[4], *RECORDS[6:]))),
    Bad(18, "eventlog-replay", "nothing but a header", unmeasured(agile_log())),
    Bad(19, "event-data", "data rewritten", unmeasured(agile_log(*changed("separator", Record(4, 4, b"text", hashlib.sha256(bytes(4)).digest()), 1)))),
    Bad(20, "event-order", "retyped", unmeasured(agile_log(*changed("UKI", Record(4, 0x80000004, b"path", b"\x44" * 32))))),
    Bad(20, "event-order", "a separator that tells of an error", logged(*changed("", Record(5, 4, b"\x01\0\0\0"), 3))),
    Bad(20, "event-order", "a separator with anything in it", logged(*changed("", Record(5, 4, b"anything"), 3))),
    Bad(20, "event-order", "in a PCR without events of the firmware", unmeasured(agile_log(*changed("name .linux", Record(11, 6, b".linux", b"\x11" * 32))))),
)  # fmt: skip

CONTENTS = (
    Bad(21, "secure-boot-off", "Secure Boot off", logged(*changed("variable SecureBoot", variable("SecureBoot", b"\0")))),
    *(Bad(21, "secure-boot-keys", name, logged(*changed(f"variable {name}", variable(name, f.certificates(b"other"))))) for name in ("PK", "KEK", "db")),
    Bad(21, "dbx", "another dbx", logged(*changed("variable dbx", variable("dbx", f.revocations(bytes(32)))))),
    Bad(21, "dbx", "below the minimum", logged(*changed("variable dbx", variable("dbx", f.revocations(bytes(32))))), referring(**MINIMUM)),
    Bad(21, "dbx", "another vendor's variable of that name", logged(*changed("variable dbx", Record(7, f.CONFIG, variable_event(f.OWNER, "dbx", f.revocations(f.REVOKED))))), referring(**MINIMUM)),
    Bad(21, "secure-boot-off", "another vendor's SecureBoot", logged(*changed("variable SecureBoot", Record(7, f.CONFIG, variable_event(f.OWNER, "SecureBoot", b"\x01"))))),
    Bad(21, "dbx", "no lists at all", logged(*changed("variable dbx", variable("dbx", b"\x01\x02"))), referring(**MINIMUM)),
    *(
        Bad(21, "dbx", f"the hash in a list {what}", logged(*changed("variable dbx", variable("dbx", signature_list(kind, f.OWNER, f.REVOKED)))), referring(**MINIMUM))
        for what, kind in (("of certificates", f.X509), ("that no firmware knows", uuid.UUID(int=9)))
    ),
    Bad(21, "dbx", "empty, and no rules for the rest", logged(*changed("variable dbx", variable("dbx", b""))), referring(**MINIMUM, rules=0)),
    Bad(21, "authority", "another certificate", logged(*changed("authority db", Record(7, f.AUTHORITY, b"other")))),
    Bad(21, "debug-mode", "debug mode", logged(Record(7, f.ACTION, b"UEFI Debug Mode"), *RECORDS)),
    Bad(21, "dma-protection", "DMA protection", logged(Record(7, f.ACTION, b"DMA Protection Disabled"), *RECORDS)),
    Bad(21, "pcr-7", "only the value known", expects=referring(rules=0, events={}, pcrs={"sha256": REFERENCE.pcrs["sha256"] | {"7": "99" * 32}})),
    Bad(22, "pcr-4", "another image", logged(*changed("UKI", Record(4, f.APPLICATION, b"path", b"\x45" * 32)))),
    Bad(22, "pcr-4", "one image more", logged(*RECORDS, Record(4, f.APPLICATION, b"path", b"\x45" * 32))),
    Bad(23, "pcr-11", "another kernel", logged(*changed("section .linux", Record(11, f.IPL, b".linux", b"\x77" * 32)))),
    Bad(23, "pcr-11", "one phase more", logged(*RECORDS, Record(11, f.IPL, b"sysinit", b"\x78" * 32))),
    Bad(23, "pcr-11", "a section missing", logged(*without(f.place_of("section .cmdline"), f.place_of("name .cmdline")))),
    Bad(23, "pcr-11", "before the initrd was left", logged(*without(f.place_of("phase leave-initrd")))),
    Bad(23, "pcr-11", "another phase", logged(*changed("phase leave-initrd", Record(11, f.IPL, b"enter-initrd")))),
    *(
        Bad(row, f"pcr-{index}", "a value that the reference's own events do not give", expects=referring(pcrs={"sha256": REFERENCE.pcrs["sha256"] | {str(index): "99" * 32}}))
        for index, row in ((4, 22), (7, 21), (11, 23), (12, 23))
    ),
    Bad(23, "pcr-12", "a credential", logged(*RECORDS, Record(12, f.IPL, b"x.cred"))),
    Bad(23, "pcr-13", "an extension", logged(*RECORDS, Record(13, f.IPL, b"x.raw"))),
    Bad(24, "boot-services", "never left", logged(*without(f.place_of("leaving"), f.place_of("left")))),
    Bad(24, "boot-services", "left without success", logged(*changed("left", Record(5, f.ACTION, b"Exit Boot Services Returned with Failure")))),
    Bad(25, "firmware", "another firmware", Forge(log=agile_log(Record(0, 8, b"firmware 2"), *without(0), *(Record(i, 4, bytes(4)) for i in (1, 3))), quoted=WITH_FIRMWARE), policy(firmware=(PROFILE,))),
    *(
        Bad(25, "firmware", f"a profile without {what}", Forge(log=LOG_1_3, quoted=WITH_FIRMWARE), policy(firmware=(FirmwareProfile("Any", pcrs),)))
        for what, pcrs in (("values", {}), ("PCR 2", {"0": PROFILE.pcrs["0"]}))
    ),
    Bad(25, "pcr", "a PCR only the policy names", Forge(quoted=(*f.PCRS, 14)), referring(pcr_selection=tuple(sorted((*f.PCRS, 14))), rules=0, pcrs={"sha256": REFERENCE.pcrs["sha256"] | {"14": "99" * 32}})),
    Bad(26, "command-line", "another root hash", logged(*changed("section .cmdline", Record(11, f.IPL, b".cmdline", b"\x15" * 32)))),
    Bad(27, "microcode", "too old", expects=policy(microcode={"000306a9": 0x22})),
    Bad(27, "microcode", "another processor", expects=policy(microcode={"000306c3": 1})),
    Bad(27, "microcode", "no processor may", expects=policy(microcode={})),
    Bad(27, "microcode", "not measured", logged(*without(f.place_of("microcode"))), policy(microcode={"000306a9": 0x21})),
    Bad(27, "microcode", "not measured, no minimum", logged(*without(f.place_of("microcode")))),
    Bad(27, "microcode", "of another form", logged(*changed("microcode", Record(15, f.CPU_MICROCODE, b"sdbox-microcode-v2\0" + bytes(8))))),
    Bad(27, "microcode", "data that was not measured", unmeasured(agile_log(*changed("microcode", Record(15, f.CPU_MICROCODE, f.microcode(0x306A9, 0x30).data, hashlib.sha256(f.microcode(0x306A9, 0x21).data).digest()))))),
    Bad(27, "microcode", "an image that measures none", logged(*without(f.place_of("microcode"))),
        policy(microcode={"000306a9": 0x21}) | referring(pcr_selection=WITHOUT_15, advisory=(5,))),
    Bad(28, "policy", "no values", expects=referring(pcrs={"sha256": {}}, advisory=f.PCRS)),
    Bad(28, "policy", "a PCR nobody knows", Forge(quoted=(*f.PCRS, 14)), referring(pcr_selection=(*f.PCRS, 14), rules=0)),
    Bad(28, "policy", "rules without events", expects=referring(events={})),
    *(Bad(28, "policy", f"no value of PCR {index}", expects=unexpected(index)) for index in (4, 7, 11, 12, 13)),
    Bad(28, "internal", "an exception", expects={"nonce": f.NONCE[:-1]}),
    Bad(30, "image-version", "too old", expects=policy(minimum_image_version=8)),
    Bad(30, "image-revoked", "revoked", expects=policy(revoked_images=("ab" * 32,))),
)  # fmt: skip

BAD = (*KEYS_AND_FORMS, *QUOTES, *LOGS, *CONTENTS)

# Each of these differs from the honest box of the factory and must be accepted all the same.
GOOD_ONES = (
    Bad(0, "", "an appraisal repeated", expects={"previous": before(1000, 5, 1, 1)}),
    Bad(0, "", "later in the same boot", Forge(clock=(1001, 5, 1, 1)), {"previous": before(1000, 5, 1, 1)}),
    Bad(0, "", "suspended", Forge(clock=(1001, 5, 2, 1)), {"previous": before(1000, 5, 1, 1)}),
    Bad(0, "", "clean reboot", Forge(clock=(1001, 6, 0, 1)), {"previous": before(1000, 5, 1, 1)}),
    Bad(0, "", "power cut", Forge(clock=(900, 6, 0, 0)), {"previous": before(1000, 5, 1, 1)}),
    Bad(0, "", "before the clock is safe again", Forge(clock=(1001, 6, 0, 0)), {"previous": before(900, 6, 0, 0)}),
    Bad(0, "", "the key it has always had", expects={"enrolled_ak": name_of(ak_public())}),
    Bad(0, "", "the key it has always had, none activated", expects={"enrolled_ak": name_of(ak_public()), "ak_name": None}),
    Bad(0, "", "TPM firmware on the list", expects=policy(tpm_firmware=(f"{f.TPM_FIRMWARE:016x}",))),
    Bad(0, "", "dbx has grown", logged(*changed("variable dbx", variable("dbx", f.revocations(f.REVOKED, bytes(32))))), referring(**MINIMUM)),
    Bad(0, "", "the pinned firmware", Forge(log=LOG_1_3, quoted=WITH_FIRMWARE), policy(firmware=(PROFILE,))),
    Bad(0, "", "microcode new enough", expects=policy(microcode={"000306a9": 0x21})),
    Bad(0, "", "microcode newer", logged(*changed("microcode", f.microcode(0x306A9, 0xFFFFFFFF))), policy(microcode={"000306a9": 0x21})),
    Bad(0, "", "an image that measures none, and nobody asks", Forge(log=agile_log(*without(f.place_of("microcode"))), quoted=WITHOUT_15), referring(pcr_selection=WITHOUT_15, advisory=(5,))),
    Bad(0, "", "a separator of ones", logged(*changed("", Record(5, 4, b"\xff" * 4), 3))),
    Bad(0, "", "the minimum version", expects=policy(minimum_image_version=7)),
    Bad(0, "", "values only", expects=referring(rules=0, events={})),
)  # fmt: skip


def odd(reference: ReferenceValues) -> ReferenceValues:
    """Return a reference whose value is not hex: only an exception can come of it."""
    return msgspec.structs.replace(reference, pcrs={"sha256": {"4": "x"}})
