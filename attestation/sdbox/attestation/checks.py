"""Checks of key, signature, quote and clock: rows 4, 10, 12, 13, 14 and 15 of the verifier's checklist."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping

from sdbox.attestation.keys import is_signed, public_key
from sdbox.attestation.structures import Algorithm, Attributes, Public, Quote, Signature, StructureError, name_of
from sdbox.attestation.verdict import Clock, Failure
from sdbox.boot.pcr import ALGORITHM_IDS, Bank

RESETTABLE = frozenset({16, 21, 22, 23})  # an operating system can reset these (PC Client Platform TPM Profile, 4.6)
_REQUIRED = (
    Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN
    | Attributes.RESTRICTED
    | Attributes.SIGN
)
_ALLOWED_SCHEMES = frozenset(
    {
        (Algorithm.ECC, Algorithm.ECDSA, Algorithm.SHA256),
        (Algorithm.ECC, Algorithm.ECDSA, Algorithm.SHA384),
        (Algorithm.RSA, Algorithm.RSASSA, Algorithm.SHA256),
        (Algorithm.RSA, Algorithm.RSAPSS, Algorithm.SHA256),
    }
)


def ak_failures(public: Public, encoded: bytes, activated: bytes | None) -> Iterator[Failure]:
    """Row 4: only a restricted signing key of this TPM cannot be made to sign a forged TPMS_ATTEST."""
    if public.attributes & _REQUIRED != _REQUIRED or public.attributes & Attributes.DECRYPT:
        yield Failure(4, "ak-attributes", f"attributes 0x{public.attributes:08X} are not an attestation key's")
    if activated is not None and not hmac.compare_digest(name_of(encoded), activated):
        yield Failure(4, "ak-name", "not the key whose credential was activated")


def signature_failures(public: Public, signature: Signature, attest: bytes) -> Iterator[Failure]:
    """Row 10: the key's own scheme, one of the allowed ones, and a signature that verifies."""
    allowed = (public.kind, *public.scheme) in _ALLOWED_SCHEMES
    if not allowed or (signature.scheme, signature.hash) != public.scheme:
        text = f"0x{signature.scheme:04X} with hash 0x{signature.hash:04X}"
        yield Failure(10, "signature-scheme", f"{text} is not the key's scheme or not allowed")
        return
    try:
        verified = is_signed(public_key(public), signature, attest)
    except StructureError as error:
        yield Failure(8, "malformed-ak-public", str(error))
        return
    if not verified:
        yield Failure(10, "signature", "does not verify with the attestation key")


def pcr_failures(quote: Quote, pcrs: Mapping[int, bytes], policy: tuple[int, ...], hash_id: int) -> Iterator[Failure]:
    """Rows 12, 13, 14: which PCRs were signed is taken from the signed selection and from nowhere else."""
    wanted = ((int(Algorithm.SHA256), policy),)
    if quote.selections != wanted:
        yield Failure(12, "pcr-selection", f"signed {_show(quote.selections)}, the policy wants {_show(wanted)}")
    signed = [index for _, indices in quote.selections for index in indices]
    if set(signed) & RESETTABLE:
        yield Failure(14, "pcr-resettable", f"the quote covers a PCR that software can reset: {signed}")
    if sorted(pcrs) != sorted(signed) or any(len(value) != Bank.SHA256.size for value in pcrs.values()):
        yield Failure(13, "pcr-values", f"values given for {sorted(pcrs)}, signed {signed}")
    elif hash_id in ALGORITHM_IDS:
        joined = b"".join(pcrs[index] for index in signed)
        if not hmac.compare_digest(hashlib.new(ALGORITHM_IDS[hash_id], joined).digest(), quote.pcr_digest):
            yield Failure(13, "pcr-digest", "the signed digest is not that of the values given")


def clock_failures(clock: Clock, previous: Clock | None) -> Iterator[Failure]:
    """Row 15: the TPM's counters never go back. A clock that is not safe counts only after a new reset."""
    if previous is None:
        return
    backwards = clock.order < previous.order
    same_boot = clock.reset_count == previous.reset_count
    if backwards or (same_boot and previous.safe and not clock.safe):
        yield Failure(15, "clock", f"clock {clock.order} does not follow {previous.order}")


def _show(selections: tuple[tuple[int, tuple[int, ...]], ...]) -> str:
    names = {number: str(bank) for number, bank in ALGORITHM_IDS.items()}
    parts = (f"{names.get(bank, hex(bank))}:{','.join(map(str, indices))}" for bank, indices in selections)
    return "+".join(parts) or "nothing"
