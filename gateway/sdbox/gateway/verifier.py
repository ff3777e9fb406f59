"""The only file that knows the appraisal: which boxes and images are accepted, by the reference values given."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sdbox.attestation.appraisal import Expected, Memory, appraise
from sdbox.attestation.credential import EkPublicKey, default_ek_name, make_credential
from sdbox.attestation.ear import Subject
from sdbox.attestation.logchecks import Facts
from sdbox.attestation.policy import Policy, PolicyFormatError, read_policy, selection
from sdbox.attestation.verdict import Seen, Verdict
from sdbox.boot.firmware import FirmwareError, read_profile
from sdbox.boot.reference import ReferenceFormatError, ReferenceValues, read_reference
from sdbox.protocol.values import BoxId, Evidence


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret wrapped for one EK and one AK name (TPM 2.0 part 1, 24). The box compares `ek_name` with its EK's."""

    secret: bytes = field(repr=False)
    id_object: bytes
    encrypted_secret: bytes
    ek_name: bytes


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, what the result is about, and, if accepted, what its event log says: the image is in there."""

    verdict: Verdict
    subject: Subject
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class Fresh:
    """What evidence must be bound to, and what is known of the box from before.

    `renews` is this channel's last accepted judgement: then the log may be left out, and is the same.
    """

    nonce: bytes = field(repr=False)
    exporter: bytes = field(repr=False)
    box_id: BoxId
    ak_name: bytes
    previous: Seen | None = None
    enrolled_ak: bytes | None = None
    renews: Judgement | None = None


def read_endorsement_key(pem: bytes) -> EkPublicKey:
    """Read an EK as PEM. ValueError if it is none, or of a kind that no TPM endorsement key has."""
    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError("unknown kind of key") from error
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in {2048, 3072}:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    raise ValueError("not the key of a TPM's endorsement key template")


def make_challenge(ek_public: str, ak_name: bytes) -> Credential:
    """Make a credential that only the TPM with this EK and this AK opens; 32 random bytes, for one use.

    ValueError if no EK of the TCG default template has this key: then no box's has (row 3).
    """
    secret, ek = secrets.token_bytes(32), read_endorsement_key(ek_public.encode())
    return Credential(secret, *make_credential(ek, ak_name, secret), default_ek_name(ek))


class Verifier:
    """Appraises evidence against each accepted image."""

    def __init__(self, paths: Sequence[Path], policy: Path | None = None, firmware: Sequence[Path] = ()) -> None:
        """Read reference values, policy and firmware profiles. ValueError if there are none that fit together."""
        try:
            references = tuple(read_reference(path.read_bytes()) for path in paths)
            rules = read_policy(policy.read_bytes()) if policy else Policy()
            profiles = tuple(read_profile(path.read_bytes()) for path in firmware)
        except (ReferenceFormatError, PolicyFormatError, FirmwareError) as error:
            raise ValueError(str(error)) from error
        self._policy = msgspec.structs.replace(rules, firmware=rules.firmware + profiles)
        if len({selection(reference, self._policy) for reference in references}) != 1:
            raise ValueError("no reference values, or with different PCR selections")
        self._references = tuple((reference, Memory(reference, self._policy)) for reference in references)

    @property
    def pcrs(self) -> tuple[int, ...]:
        return selection(self._references[0][0], self._policy)

    async def judge(self, evidence: Evidence, fresh: Fresh) -> Judgement:
        """Appraise in a thread. With several images: the one that fits, else the one that failed least."""
        return await asyncio.to_thread(self._judge, evidence, fresh)

    def _judge(self, evidence: Evidence, fresh: Fresh) -> Judgement:
        judgements = [self._against(reference, memory, evidence, fresh) for reference, memory in self._references]
        return min(judgements, key=lambda judgement: len(judgement.verdict.failures))

    def _against(self, reference: ReferenceValues, memory: Memory, evidence: Evidence, fresh: Fresh) -> Judgement:
        digest = _remembered_log(memory, fresh.renews)
        expected = Expected(
            nonce=fresh.nonce,
            exporter=fresh.exporter,
            box_id=fresh.box_id,
            reference=reference,
            ak_name=fresh.ak_name,
            previous=fresh.previous,
            policy=self._policy,
            enrolled_ak=fresh.enrolled_ak,
            connected=fresh.renews is not None,
            log_digest=digest,
        )
        subject = Subject.of(evidence, fresh.exporter, fresh.box_id, reference=reference, policy=self._policy)
        verdict = appraise(evidence, expected, memory)
        seen = verdict.seen
        known = memory.logs.find(memory.rules, seen.log_digest) if seen and seen.log_digest else None
        return Judgement(verdict, subject, known if verdict.accepted else None)


def _remembered_log(memory: Memory, renews: Judgement | None) -> bytes | None:
    """Return the digest of the log that this channel's last evidence had. Its facts live as long as the channel."""
    seen = renews.verdict.seen if renews else None
    if renews is None or seen is None or seen.log_digest is None:
        return None
    if renews.facts is not None and renews.facts.rules is memory.rules:
        memory.logs.keep(memory.rules, seen.log_digest, renews.facts)
    return seen.log_digest


def describe(verdict: Verdict) -> str:
    """Return the failed checks for the record, as `12:pcr-selection 13:pcr-digest`; for 27 with what was measured."""
    codes = " ".join(dict.fromkeys(f"{failure.check}:{failure.code}" for failure in verdict.failures))
    measured = verdict.microcode if "27:microcode" in codes.split() else None
    return f"{codes} ({measured})" if measured else codes
