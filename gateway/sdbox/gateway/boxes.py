"""One connection's proof of the box: inventory, credential, evidence, and the result's lifetime."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import Final

from sdbox.attestation.verdict import Seen
from sdbox.gateway.ear import EarIssuer
from sdbox.gateway.limits import RateLimit, network_of
from sdbox.gateway.needs import Needs
from sdbox.gateway.passes import Pass, Passes
from sdbox.gateway.store import RevocationKind, Store
from sdbox.gateway.verifier import Credential, Fresh, Judgement, Verifier, describe, make_challenge
from sdbox.protocol import messages as m
from sdbox.protocol.contexts import NONCE_SIZE
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import BoxId, Evidence

NONCE_SECONDS: Final = 60.0
KEEP_SECONDS: Final = 900.0
RENEW_AT: Final = 0.6  # of the lifetime
_NAME_SIZE: Final = 34
_SHA256: Final = b"\x00\x0b"  # TPM_ALG_SHA256, the first bytes of the AK's Name


@dataclass(frozen=True, slots=True)
class BoxServices:
    """What the proof needs; the same for all connections."""

    store: Store
    passes: Passes
    verifier: Verifier
    issuer: EarIssuer
    claims: RateLimit  # of being a box, for each address
    limit: RateLimit  # of a box whose TPM was proved


class BoxProof:
    """The stages in order: `challenge`, `activate`, `judge`; later `renewal` and `judge` again."""

    def __init__(self, services: BoxServices, exporter: bytes, address: str) -> None:
        """Start with nothing proved; `exporter` binds evidence to this connection, which is from `address`."""
        self.box_id: BoxId | None = None
        self._services = services
        self._exporter = exporter
        self._address = address
        self._ak_name = b""
        self._ek_public = ""  # whose credential this channel's box opened
        self._credential: Credential | None = None
        self._last: Judgement | None = None  # accepted, on this channel
        self._kept_until = 0.0
        self._nonce = b""
        self._nonce_until = 0.0
        self._renew_at = self._lapses_at = 0.0

    async def challenge(self, hello: m.Hello) -> m.Challenge:
        """Look the box up and make its credential. Refusal PROTOCOL, SESSION_REVOKED or BOX_UNKNOWN."""
        sizes = (len(hello.box_id), len(hello.ak_name))
        if hello.version != m.VERSION or sizes != (16, _NAME_SIZE) or hello.ak_name[:2] != _SHA256:
            raise Refusal(Reason.PROTOCOL, "Hello with another version or sizes")
        self.box_id = BoxId(uuid.UUID(bytes=hello.box_id))
        if not self._services.claims.take(f"{network_of(self._address)} {self.box_id}"):
            raise Refusal(Reason.GATEWAY_UNREACHABLE, "too many connections of this box from this address")
        self._ak_name = hello.ak_name
        self._credential = await asyncio.to_thread(self._credential_for, self.box_id)
        wrapped = self._credential.id_object, self._credential.encrypted_secret
        return m.Challenge(self._new_nonce(), *wrapped, self._credential.ek_name, self._services.verifier.pcrs)

    def activate(self, message: m.Activated) -> None:
        """Take the secret that only the right TPM could read, once. Refusal BOX_ACTIVATION or GATEWAY_UNREACHABLE."""
        credential, self._credential = self._credential, None
        if credential is None or not hmac.compare_digest(credential.secret, message.secret):
            raise Refusal(Reason.BOX_ACTIVATION, "5:credential")
        if not self._services.limit.take(str(self.box_id)):
            raise Refusal(Reason.GATEWAY_UNREACHABLE, "too many connections of this box")

    async def judge(self, message: m.EvidenceMessage, nonce_for_card: bytes) -> m.Attested:
        """Appraise evidence for the outstanding nonce. Refusal as the verdict says, with the failed checks.

        BOX_UNKNOWN if the box was forgotten since, or has another TPM now: an open channel does not outlive that by
        more than a result's life. The box's history counts each time, whichever channel it was written by.
        """
        nonce, self._nonce = self._nonce, b""
        if not nonce or self.box_id is None:
            raise Refusal(Reason.PROTOCOL, "evidence that was not asked for")
        if time.monotonic() > self._nonce_until:
            raise Refusal(Reason.BOX_EVIDENCE, "nonce too old")
        evidence = Evidence(message.attest, message.signature, message.ak_public, message.event_log, message.pcrs)
        before = await asyncio.to_thread(self._known, self.box_id)
        judgement = await self._services.verifier.judge(evidence, self._fresh(nonce, self.box_id, before))
        if (reason := judgement.verdict.reason) is not None:
            raise Refusal(reason, describe(judgement.verdict))
        await asyncio.to_thread(self._remember, self.box_id, judgement, before)
        self._last = judgement
        lifetime = self._services.issuer.lifetime
        self._renew_at = time.monotonic() + RENEW_AT * lifetime
        self._lapses_at = time.monotonic() + lifetime
        ear = self._services.issuer.issue(judgement.verdict, judgement.subject)
        return m.Attested(ear, int(lifetime), nonce_for_card)

    def _known(self, box_id: BoxId) -> Pass | None:
        """Return what is kept of the box, if it is still the one, in the boot, that this channel began with."""
        if self._services.store.ek_public(box_id) != self._ek_public:
            raise Refusal(Reason.BOX_UNKNOWN, "taken off the inventory, or enrolled with another TPM")
        before, last = self._services.passes.last(box_id), self._seen
        if before and last and before.seen.clock.reset_count != last.clock.reset_count:
            raise Refusal(Reason.BOX_EVIDENCE, "15:reset seen on another channel")
        return before

    @property
    def _seen(self) -> Seen | None:
        return self._last.verdict.seen if self._last else None

    def _fresh(self, nonce: bytes, box_id: BoxId, before: Pass | None) -> Fresh:
        """On this channel the log need not be sent twice, nor may the TPM be reset; the box's history always counts."""
        known = [seen for seen in (self._seen, before and before.seen) if seen]
        return Fresh(
            nonce,
            self._exporter,
            box_id,
            self._ak_name,
            previous=max(known, key=lambda seen: seen.clock.order, default=None),
            enrolled_ak=before.ak_name if before else None,
            renews=self._last,
        )

    def _remember(self, box_id: BoxId, judgement: Judgement, before: Pass | None) -> None:
        """Keep a channel's first pass, and then one in KEEP_SECONDS: a write costs thirty appraisals.

        What is kept may so be a little older than what was seen, which a replay can not use: each has its nonce.
        Refusal BOX_EVIDENCE if another channel of this box passed meanwhile.
        """
        seen = judgement.verdict.seen
        if seen is not None and time.monotonic() >= self._kept_until:
            passed = Pass.now(self._ak_name, seen, judgement.subject.image_version)
            if not self._services.passes.keep(box_id, passed, after=before):
                raise Refusal(Reason.BOX_EVIDENCE, "15:clock overtaken by another channel")
            self._kept_until = time.monotonic() + KEEP_SECONDS

    def renewal(self) -> m.Renew | None:
        """Return the request for fresh evidence once it is due and none is outstanding."""
        if self._nonce or time.monotonic() < self._renew_at:
            return None
        return m.Renew(self._new_nonce())

    def admit(self, needs: Needs) -> None:
        """Refusal RESULT_LAPSED without a result that counts now, PROJECT_DEVICE if it lacks what a bubble needs."""
        if self._last is None or self.has_lapsed:
            raise Refusal(Reason.RESULT_LAPSED)
        if lacking := needs.unmet(self._last):
            raise Refusal(Reason.PROJECT_DEVICE, lacking)

    @property
    def remarks(self) -> str:
        """Return what the record says of the accepted box: its model and microcode, and which quirks were tolerated."""
        verdict = self._last.verdict if self._last else None
        known = (verdict.model, str(verdict.microcode or ""), *verdict.notes) if verdict else ()
        return "; ".join(part for part in known if part)

    @property
    def has_lapsed(self) -> bool:
        return time.monotonic() >= self._lapses_at

    def is_revoked(self) -> bool:
        """Ask the store; blocks."""
        return self._services.store.is_revoked(RevocationKind.BOX, str(self.box_id))

    def _credential_for(self, box_id: BoxId) -> Credential:
        if self.is_revoked():
            raise Refusal(Reason.SESSION_REVOKED, "box revoked")
        ek_public = self._services.store.ek_public(box_id)
        if ek_public is None:
            raise Refusal(Reason.BOX_UNKNOWN)
        self._ek_public = ek_public
        try:
            return make_challenge(ek_public, self._ak_name)
        except ValueError as error:
            raise Refusal(Reason.BOX_ACTIVATION, "3:ek-template") from error

    def _new_nonce(self) -> bytes:
        self._nonce = secrets.token_bytes(NONCE_SIZE)
        self._nonce_until = time.monotonic() + NONCE_SECONDS
        return self._nonce
