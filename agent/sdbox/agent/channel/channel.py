"""The box's end of the control channel, as the agent uses it.

Each step takes what the step before proved: attest, then show the card, then open a bubble with a card signature made
for this bubble, this channel and this tunnel key (S2, S4). A channel that ended stays ended; a new one attests again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, TypeVar

from sdbox.agent.channel.authenticator import channel_keys, make_authenticator
from sdbox.agent.channel.grants import grant_of, offers_of
from sdbox.agent.channel.link import ISSUE_SECONDS, Link
from sdbox.protocol import messages as m
from sdbox.protocol.authenticator_request import certificate_request
from sdbox.protocol.contexts import (
    QUOTE_EXPORTER_LABEL,
    offers_context,
    open_context,
    renewal_context,
    written_context,
)
from sdbox.protocol.reasons import Reason, Refusal, parse_reason
from sdbox.protocol.tls import TlsStream
from sdbox.protocol.values import AttestationResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sdbox.agent.channel.parties import Event, Prover, Signer
    from sdbox.protocol.states import ChannelState
    from sdbox.protocol.values import BoxId, Evidence, Grant, Offer

_T = TypeVar("_T")


class Channel:
    """A connection to the gateway. Every call raises `Refusal`; once the channel has ended, all do, with its reason.

    A call may be cancelled at any moment (the card is pulled): its answer is still taken in when it comes, and a grant
    that nobody waits for any more is given back at once. Calls wait for each other; heartbeats do not.
    """

    def __init__(self, stream: TlsStream) -> None:
        """Take over a stream that nobody else reads."""
        self._stream = stream
        self._keys = channel_keys(stream)
        self._link = Link(stream, self._renew)
        self._prover: Prover | None = None
        self._pcrs: tuple[int, ...] = ()
        self._turn = asyncio.Lock()
        self.renews = False  # whether the centre renews certificates, as it said with its offers

    @classmethod
    async def connect(cls, endpoint: str, *, server_name: str, ca_file: Path) -> Channel:
        """Open the TLS connection to "address:port". Refusal GATEWAY_UNREACHABLE or GATEWAY_UNTRUSTED."""
        return cls(await TlsStream.connect(endpoint, server_name=server_name, ca_file=ca_file))

    def exporter(self) -> bytes:
        """Return the 32 bytes that bind a quote to this connection (checklist row 7)."""
        return self._stream.export(QUOTE_EXPORTER_LABEL, 32)

    @property
    def state(self) -> ChannelState:
        return self._link.state

    async def attest(self, box_id: BoxId, prover: Prover) -> AttestationResult:
        """Prove what this box is, once. `prover` is kept: it answers the gateway's renewals in the background."""
        async with self._turn:
            self._prover = prover
            challenge = await self._link.ask(m.Hello(m.VERSION, box_id.bytes, await prover.ak_name()), m.Challenge)
            secret = await prover.activate(challenge.id_object, challenge.encrypted_secret, challenge.ek_name)
            await self._link.send(m.Activated(secret))
            self._pcrs = challenge.pcrs
            evidence = await prover.evidence(challenge.nonce, self.exporter(), challenge.pcrs)
            attested = await self._link.ask(_evidence_message(evidence), m.Attested)
            return AttestationResult(attested.ear, attested.seconds)

    async def prove_card(self, certificates: tuple[bytes, ...], signer: Signer) -> tuple[Offer, ...]:
        """Show all project certificates of the card (DER), signed for by one; return how the gateway judges each."""
        async with self._turn:
            await self._link.settled()
            authenticator = await self._authenticate(offers_context(self._link.nonce()), signer)
            offers = await self._link.ask(m.CardProof(certificates, authenticator), m.Offers)
            self.renews = offers.renews
            return self._or_fail(lambda: offers_of(offers.offers, certificates))

    async def open(self, project: str, tunnel_public: bytes, signer: Signer) -> Grant:
        """Ask for a bubble; `signer` is this project's container. The gateway ends any other session first (S5)."""
        async with self._turn:
            await self._link.settled()
            authenticator = await self._authenticate(open_context(self._link.nonce(), project, tunnel_public), signer)
            message = await self._link.ask(m.Open(project, tunnel_public, authenticator), m.GrantMessage)
            return self._or_fail(lambda: grant_of(message, project))

    async def close_session(self, session: str, cause: str) -> None:
        """End a session; returns when the gateway has removed its peer. `cause` as in `messages.Close`."""
        async with self._turn:
            await self._link.settled()
            closed = await self._link.ask(m.Close(session, cause), m.Closed)
            if closed.session != session:
                self._link.fail(Reason.PROTOCOL)
                raise Refusal(Reason.PROTOCOL, "another session was closed")

    async def request_renewal(self, project: str, request: bytes, signer: Signer) -> bytes:
        """Ask for a new certificate for the PKCS#10 `request`; `signer` is the container that it will replace.

        Returns the certificate (DER), unchecked. The channel is free for others while the centre's CA is at work.
        """
        async with self._turn:
            await self._link.settled()
            authenticator = await self._authenticate(renewal_context(self._link.nonce(), project, request), signer)
            issue = self._link.expect_issue(project)
            try:
                pending = await self._link.ask(m.RenewalRequest(project, request, authenticator), m.RenewalPending)
                self._check_project(pending.project, project)
            except BaseException:
                issue.cancel()
                raise
        try:
            async with asyncio.timeout(ISSUE_SECONDS):
                issued = await issue
        except TimeoutError as error:
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, "no certificate in time") from error
        if issued.code is not None or not issued.certificate:
            raise Refusal(parse_reason(issued.code or ""), "no certificate was issued")
        return issued.certificate

    async def confirm_renewal(self, project: str, signer: Signer) -> None:
        """Say, signed by the new container, that it is on the card; when this returns, the old one opens nothing."""
        async with self._turn:
            await self._link.settled()
            authenticator = await self._authenticate(written_context(self._link.nonce(), project), signer)
            closed = await self._link.ask(m.RenewalWritten(project, authenticator), m.RenewalClosed)
            self._check_project(closed.project, project)

    async def heartbeat(self, session: str) -> None:
        """Keep the lease alive; returns with the gateway's echo. Refusal if the session is over or the echo is late."""
        await self._link.beat(session)

    async def events(self) -> AsyncIterator[Event]:
        """Yield what the gateway does on its own; `Lost` is the last. Ends without it after `close`. One consumer."""
        while (event := await self._link.events.get()) is not None:
            yield event

    async def close(self) -> None:
        """Leave: the gateway ends whatever session is left. Idempotent."""
        await self._link.close()

    async def _authenticate(self, context: bytes, signer: Signer) -> bytes:
        return await make_authenticator(self._keys, certificate_request(context), signer.chain, signer.sign)

    async def _renew(self, nonce: bytes) -> None:
        """Answer a Renew. The selection is the challenge's: the gateway's policy does not change within a channel.

        The event log stays at home: the gateway knows it, and the quote names it by its hash.
        """
        if self._prover is None:
            raise Refusal(Reason.PROTOCOL, "renewal before the attestation")
        evidence = await self._prover.evidence(nonce, self.exporter(), self._pcrs)
        await self._link.send(_evidence_message(dataclasses.replace(evidence, event_log=b"")))

    def _check_project(self, told: str, project: str) -> None:
        if told != project:
            self._link.fail(Reason.PROTOCOL)
            raise Refusal(Reason.PROTOCOL, "an answer about another project")

    def _or_fail(self, read: Callable[[], _T]) -> _T:
        """Return what `read` makes of the gateway's answer; a gateway that answers nonsense is left."""
        try:
            return read()
        except Refusal as refusal:
            self._link.fail(refusal.reason)
            raise


def _evidence_message(evidence: Evidence) -> m.EvidenceMessage:
    return m.EvidenceMessage(
        evidence.attest, evidence.signature, evidence.ak_public, evidence.event_log, dict(evidence.pcrs)
    )
