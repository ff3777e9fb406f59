"""Every code that a failed check can carry: its row in the verifier's checklist, what was found, what an operator does.

`docs/attestation.md` shows this table; a test compares. Codes are stable: records and scripts rely on them.
"""
# ruff: noqa: E501 - one line of the table is one line of the document

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sdbox.attestation.verdict import Failure


@dataclass(frozen=True, slots=True)
class Code:
    """One line of the table."""

    row: int
    found: str
    operator: str


_FORGED = (
    "Treat as an attack or a broken agent: keep the record, take the box out of service, compare its agent's version."
)
_ENROL = (
    "Read the endorsement key on the machine itself; if it is the machine's, correct the inventory, else refuse it."
)
_LOG = (
    "Run `sdbox eventlog` on the recorded log; a firmware update may bring a new quirk: report it before allowing it."
)
_SETTINGS = "Look at the firmware's setup screen of that box; restore the factory settings and keys."
_IMAGE = "Find out which image the box runs; give it the current one, or add the reference values of a new build."

CODES: Final[dict[str, Code]] = {
    "ek-malformed": Code(1, "the endorsement certificate is none, or is malformed beyond the known vendor quirks", _ENROL),
    "ek-chain": Code(1, "the endorsement certificate does not chain to a pinned vendor root", "Is it a TPM of a vendor you buy? Then add its root with its provenance; a software TPM has none."),
    "ek-validity": Code(1, "a certificate of the chain is not valid now", "Check the verifier's clock; ask the vendor for a renewed certificate."),
    "ek-usage": Code(1, "the certificate is not one for an endorsement key (usages, constraints), or something unknown in it is critical", _ENROL),
    "ek-mismatch": Code(2, "the certificate is for another key than the TPM's", _ENROL),
    "ek-inventory": Code(2, "the endorsement key is not the one the factory noted for this serial", "Relayed, or a swapped mainboard: only an operator who has seen the machine enrols it anew."),
    "ek-template": Code(3, "the endorsement key does not have the TCG default template", "A key that can sign or leave the TPM is no endorsement key: refuse the machine."),
    "ak-attributes": Code(4, "the attestation key could sign forged structures, or could leave the TPM", _FORGED),
    "ak-name": Code(4, "not the key whose credential was activated", _FORGED),
    "credential": Code(5, "the secret that came back is not the one wrapped for this TPM", "Another TPM answers for this box: relayed, or its mainboard was changed."),
    "ak-changed": Code(6, "a known box presents another attestation key", "The TPM was cleared or exchanged: an operator who knows why forgets the box and enrols it again."),
    "malformed-attest": Code(8, "the quote is not exactly one structure", _FORGED),
    "malformed-signature": Code(8, "the signature is not exactly one structure", _FORGED),
    "malformed-ak-public": Code(8, "the key is not exactly one structure, or no usable key", _FORGED),
    "malformed-eventlog": Code(8, "the event log is too long", _LOG),
    "not-a-quote": Code(9, "magic or type is not a quote's", _FORGED),
    "signature-scheme": Code(10, "scheme or hash is not the key's own, or not on the allow-list", _FORGED),
    "signature": Code(10, "the signature does not verify", _FORGED),
    "qualifying-data": Code(11, "made for another nonce, channel, box or event log", "Replayed or relayed evidence. Once: see whether the network changed under the box; again: an attack."),
    "pcr-selection": Code(12, "the signed PCR selection is not the policy's", _FORGED),
    "pcr-values": Code(13, "values are missing, too many, or of another size", _FORGED),
    "pcr-digest": Code(13, "the signed digest is not that of the values shown", _FORGED),
    "pcr-resettable": Code(14, "the quote covers a PCR that software can reset", "The policy or the box asks for PCR 16 or 21 to 23: correct the policy."),
    "clock": Code(15, "the TPM's clock or counters went back", "A cloned or restored TPM state, or replayed evidence: take the box out of service."),
    "same-boot": Code(15, "the same boot, yet another event log", _FORGED),
    "reset": Code(15, "the TPM was reset while its box stayed connected", "The TPM's reset line was pulled: inspect the machine."),
    "tpm-firmware": Code(16, "the TPM's firmware version is not on the allow-list", "Update the TPM's firmware, or add the version once it was assessed."),
    "qualified-signer": Code(16, "the key does not sit where the box's template puts it", _FORGED),
    "eventlog": Code(17, "the event log is malformed", _LOG),
    "eventlog-bank": Code(17, "the event log has no SHA-256 digests", _SETTINGS),
    "eventlog-no-spec-id": Code(17, "the event log is in the old SHA-1 format", _SETTINGS),
    "eventlog-padding": Code(17, "bytes follow the last event", _LOG),
    "eventlog-unknown-type": Code(17, "an event of an unknown type", _LOG),
    "eventlog-repeated-spec-id": Code(17, "a second Spec ID event", _LOG),
    "eventlog-unknown": Code(17, "a log known by its hash only, and the verifier does not know it", "None: the box sends the whole log with its next evidence."),
    "eventlog-replay": Code(18, "the event log does not give the quoted values", "Events left out, added or changed on the way: treat as an attack; a TPM reset shows here too."),
    "event-data": Code(19, "an event's data is not what was measured", "The log was edited after the boot: treat as an attack."),
    "event-order": Code(20, "an event of a type, or in a place, that an honest boot does not have", _LOG),
    "secure-boot-off": Code(21, "Secure Boot is off", _SETTINGS),
    "secure-boot-keys": Code(21, "PK, KEK or db are not exactly ours", _SETTINGS),
    "dbx": Code(21, "dbx is not the one expected, or lacks a revocation that the policy asks for", "Bring the box's revocation list up to date; one that grew is allowed by `dbx_minimum` in the reference values."),
    "authority": Code(21, "what started was vouched for by another certificate than ours", _IMAGE),
    "debug-mode": Code(21, "the firmware was in debug mode", _SETTINGS),
    "dma-protection": Code(21, "the firmware had its DMA protection off", _SETTINGS),
    "pcr-7": Code(21, "PCR 7 is not the reference's", _SETTINGS),
    "pcr-4": Code(22, "another loader or kernel image was started", _IMAGE),
    "pcr-11": Code(23, "another part of the kernel image, or another phase of the boot", _IMAGE),
    "pcr-12": Code(23, "a command line, credential or add-on from outside the image", "Look for files beside the kernel image on the box's EFI partition; write the image anew."),
    "pcr-13": Code(23, "a system extension from outside the image", "Look for files beside the kernel image on the box's EFI partition; write the image anew."),
    "boot-services": Code(24, "the boot did not end with one ExitBootServices that succeeded", _LOG),
    "firmware": Code(25, "PCR 0 or 2 is not that of any known firmware of this model", "After a firmware update: learn the profile from a golden machine (`sdbox reference learn`); else inspect the machine."),
    "pcr": Code(25, "another PCR of the policy is not the reference's", _IMAGE),
    "command-line": Code(26, "the measured command line, and with it the root hash, is another one", _IMAGE),
    "microcode": Code(27, "the processor's microcode is too old, or was not measured", "Update the image or the firmware: the record has processor and revision."),
    "policy": Code(28, "the policy does not say what to expect of everything that is quoted", "Correct the reference values: nothing is accepted by default."),
    "internal": Code(28, "an exception inside the appraisal", "Report it with the recorded evidence; the box stays out."),
    "image-version": Code(30, "the image is older than the minimum", "Update the box."),
    "image-revoked": Code(30, "the image is on the revocation list", "Update the box; find out why it still had the revoked one."),
}  # fmt: skip


def failure(code: str, text: str) -> Failure:
    """Return the failure of `code`. KeyError for a code that is not in the table."""
    return Failure(CODES[code].row, code, text)


def table() -> str:
    """Return the table for docs/attestation.md."""
    lines = ["| row | code | what was found | what an operator does |", "|---|---|---|---|"]
    ordered = sorted(CODES.items(), key=lambda item: item[1].row)
    lines += [f"| {code.row} | `{name}` | {code.found} | {code.operator} |" for name, code in ordered]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
