"""Checks of key, signature, quote, clock and TPM: rows 4, 6, 10, 12 to 16 of the verifier's checklist."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Protocol

from sdbox.attestation.codes import failure
from sdbox.attestation.keys import HASHES, Key, is_one_encoding, is_signed
from sdbox.attestation.policy import Policy
from sdbox.attestation.structures import Algorithm, Attributes, Quote, Signature
from sdbox.attestation.verdict import Clock, Failure, Seen
from sdbox.boot.pcr import ALGORITHM_IDS, Bank

RESETTABLE = frozenset({16, 21, 22, 23})  # an operating system can reset these (PC Client Platform TPM Profile, 4.6)
_REQUIRED = int(
    Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN
    | Attributes.RESTRICTED
    | Attributes.SIGN
)
_DECRYPT = int(Attributes.DECRYPT)
_ENDORSEMENT = (0x4000000B).to_bytes(4, "big")  # TPM_RH_ENDORSEMENT; a permanent handle is its own name
_ALLOWED_SCHEMES = frozenset(
    {
        (Algorithm.ECC, Algorithm.ECDSA, Algorithm.SHA256),
        (Algorithm.ECC, Algorithm.ECDSA, Algorithm.SHA384),
        (Algorithm.RSA, Algorithm.RSASSA, Algorithm.SHA256),
        (Algorithm.RSA, Algorithm.RSAPSS, Algorithm.SHA256),
    }
)


class Identity(Protocol):
    """What rows 6 and 16 need of `appraisal.Expected`."""

    @property
    def ak_name(self) -> bytes | None: ...
    @property
    def enrolled_ak(self) -> bytes | None: ...
    @property
    def policy(self) -> Policy: ...


def ak_failures(key: Key, activated: bytes | None) -> Iterator[Failure]:
    """Row 4: only a restricted signing key of this TPM cannot be made to sign a forged TPMS_ATTEST."""
    attributes = key.public.attributes.value
    if attributes & _REQUIRED != _REQUIRED or attributes & _DECRYPT:
        yield failure("ak-attributes", f"attributes 0x{attributes:08X} are not an attestation key's")
    if activated is not None and not hmac.compare_digest(key.name, activated):
        yield failure("ak-name", "not the key whose credential was activated")


def signature_failures(key: Key, signature: Signature, attest: bytes) -> Iterator[Failure]:
    """Rows 8 and 10: the key's own scheme, one of the allowed ones, and a signature that verifies."""
    public = key.public
    allowed = (public.kind, *public.scheme) in _ALLOWED_SCHEMES
    if not allowed or (signature.scheme, signature.hash) != public.scheme:
        text = f"0x{signature.scheme:04X} with hash 0x{signature.hash:04X}"
        yield failure("signature-scheme", f"{text} is not the key's scheme or not allowed")
    elif key.key is None:
        yield failure("malformed-ak-public", key.error)
    elif not is_one_encoding(public, signature):
        yield failure("malformed-signature", "r or s of another size than the curve's")
    elif not is_signed(key.key, signature, attest):
        yield failure("signature", "does not verify with the attestation key")


def pcr_failures(quote: Quote, pcrs: Mapping[int, bytes], policy: tuple[int, ...], hash_id: int) -> Iterator[Failure]:
    """Rows 12, 13, 14: which PCRs were signed is taken from the signed selection and from nowhere else.

    `hash_id` is the key's own hash, which the TPM makes the digest with; one that is not allowed has failed row 10.
    """
    wanted = ((int(Algorithm.SHA256), policy),)
    if quote.selections != wanted:
        yield failure("pcr-selection", f"signed {_show(quote.selections)}, the policy wants {_show(wanted)}")
    signed = [index for _, indices in quote.selections for index in indices]
    if not RESETTABLE.isdisjoint(signed):
        yield failure("pcr-resettable", f"the quote covers a PCR that software can reset: {signed}")
    if sorted(pcrs) != sorted(signed) or any(len(value) != Bank.SHA256.size for value in pcrs.values()):
        yield failure("pcr-values", f"values given for {sorted(pcrs)}, signed {signed}")
    elif hash_id in HASHES:
        joined = b"".join([pcrs[index] for index in signed])
        if not hmac.compare_digest(ALGORITHM_IDS[hash_id].digest(joined), quote.pcr_digest):
            yield failure("pcr-digest", "the signed digest is not that of the values given")


def clock_failures(clock: Clock, log_digest: bytes, previous: Seen | None, *, connected: bool) -> Iterator[Failure]:
    """Row 15: the TPM's counters never go back, one boot has one log, and a connection does not survive a reset.

    A clock that is not safe (a power cut) counts only after a new reset.
    """
    if previous is None:
        return
    before = previous.clock
    same_boot = clock.reset_count == before.reset_count
    if clock.order < before.order or (same_boot and before.safe and not clock.safe):
        yield failure("clock", f"clock {clock.order} does not follow {before.order}")
    elif connected and not same_boot:
        yield failure("reset", f"reset {before.reset_count} became {clock.reset_count} on an open channel")
    elif same_boot and previous.log_digest not in {None, log_digest}:
        yield failure("same-boot", f"reset {clock.reset_count} had another event log")


def identity_failures(quote: Quote, key: Key | None, expected: Identity) -> Iterator[Failure]:
    """Rows 6 and 16: the box's own key, in its place below the endorsement hierarchy, in a TPM of known firmware."""
    name = expected.ak_name or (key.name if key else None)
    if expected.enrolled_ak is not None and name != expected.enrolled_ak:
        yield failure("ak-changed", "the box has always had another attestation key")
    if key and quote.signer != qualified_name(key.name):
        yield failure("qualified-signer", "the key is not a primary key of the endorsement hierarchy")
    allowed = expected.policy.tpm_firmware
    version = f"{quote.firmware:016x}"
    if allowed is not None and version not in allowed:
        yield failure("tpm-firmware", f"TPM firmware {version}")


def qualified_name(name: bytes) -> bytes:
    """Return the Qualified Name of a primary key in the endorsement hierarchy (TPM 2.0 part 1, 16.3)."""
    return name[:2] + hashlib.sha256(_ENDORSEMENT + name).digest()


def _show(selections: tuple[tuple[int, tuple[int, ...]], ...]) -> str:
    names = {number: str(bank) for number, bank in ALGORITHM_IDS.items()}
    parts = (f"{names.get(bank, hex(bank))}:{','.join(map(str, indices))}" for bank, indices in selections)
    return "+".join(parts) or "nothing"
