"""One connection from its first message to its end: the state table first, then the desk whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sdbox.gateway.authenticator import connection_keys
from sdbox.gateway.boxes import BoxProof, BoxServices
from sdbox.gateway.carddesk import CardDesk
from sdbox.gateway.cards import CardPolicy
from sdbox.gateway.grants import grant_message
from sdbox.gateway.limits import RateLimit
from sdbox.gateway.record import Record
from sdbox.gateway.renewals import RenewalDesk, Renewals
from sdbox.gateway.sessions import Bubble, Session
from sdbox.gateway.store import RevocationKind, Store
from sdbox.protocol import messages as m
from sdbox.protocol.contexts import QUOTE_EXPORTER_LABEL
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.states import ChannelState, gateway_step
from sdbox.protocol.tls import StreamClosedError, TlsStream
from sdbox.protocol.wire import WireError, decode_to_gateway, encode

WRITE_SECONDS: Final = 10.0
# How long the box may take for its next message; once attested, the result's lifetime and the lease rule instead.
READ_SECONDS: Final = {ChannelState.NEW: 10.0, ChannelState.CHALLENGED: 60.0, ChannelState.ACTIVATED: 60.0}
_UNPROVEN: Final = {ChannelState.NEW, ChannelState.CHALLENGED}
_PROVEN: Final = {ChannelState.ATTESTED, ChannelState.OFFERED}
# What a researcher can cure on the same connection: another card, another container, another bubble.
_CURABLE: Final = {
    reason for reason in Reason if reason.startswith(("card-", "certificate-", "container-", "project-", "renewal-"))
}
_CURABLE.update({Reason.TUNNEL_FAILED, Reason.DESKTOP_FAILED})
# What costs a signature's check and a line in the record. No person gets near the limit, nor a card full of renewals.
_COSTLY: Final = (m.CardProof, m.Open, m.RenewalRequest, m.RenewalWritten)
COSTLY_BURST: Final = 200
COSTLY_PER_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Services:
    """What every conversation uses."""

    store: Store
    record: Record
    boxes: BoxServices
    cards: CardPolicy
    bubbles: Mapping[str, Bubble]
    renewals: Renewals
    lease: int


class Conversation:
    """Runs until the box leaves or is refused for good. Whatever way it ends, its session ends with it (S6)."""

    def __init__(self, stream: TlsStream, services: Services) -> None:
        """Take over a stream that nobody else reads."""
        self._stream = stream
        self._services = services
        self._state = ChannelState.NEW
        self._box = BoxProof(services.boxes, stream.export(QUOTE_EXPORTER_LABEL, 32), stream.peer_address)
        self._card = CardDesk(services.cards, connection_keys(stream))
        self._renewals = RenewalDesk(services.renewals, services.record, self._send_beside)
        self._session: Session | None = None
        self._left: Session | None = None  # the one before
        self._lease_until = 0.0
        self._costly = RateLimit(COSTLY_BURST, COSTLY_PER_MINUTE)
        self._revocations = 0
        self._revocations_seen = -1
        self._ticking: asyncio.Task[None] | None = None
        self._fault: Exception | None = None
        self._lock = asyncio.Lock()

    @property
    def is_proven(self) -> bool:
        return self._state in _PROVEN

    async def run(self) -> None:
        """Serve the connection; returns when it is over and nothing of it is left. Raises what nobody expected."""
        async with contextlib.AsyncExitStack() as ending:  # from the last to the first, whatever one of them raises
            ending.push_async_callback(self._stop_ticking)
            ending.push_async_callback(self._stream.close)
            ending.push_async_callback(self._renewals.close)
            ending.push_async_callback(self._end_session, "connection-lost")
            ending.callback(self._fail)
            await self._converse()

    async def _converse(self) -> None:
        try:
            while self._state is not ChannelState.FAILED:
                message = decode_to_gateway(await self._read())
                async with self._lock:
                    await self._take(message)
        except WireError as error:
            await self._end_session("connection-lost")  # the record may take its time (S6)
            await self._note("refused", reason=Reason.PROTOCOL, detail=str(error))
        except (StreamClosedError, TimeoutError):
            # Another TPM than the enrolled one can not open the credential: such a box has nothing to answer with.
            unanswered = self._state is ChannelState.CHALLENGED
            await self._end_session("connection-lost")
            await self._note("left", detail="5:credential without an answer" if unanswered else "")
        if self._fault is not None:
            raise self._fault

    def tick(self, revocations: int) -> None:
        """Have done what time demands: lapse, lease, renewal, revocation. Returns at once.

        It waits for the message at hand, and the next message waits for it: a box that always has one more to say does
        not put it off. If it fails, the conversation ends.
        """
        self._revocations = revocations
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        async with self._lock:
            if self._state is ChannelState.FAILED:
                return
            try:
                await self._keep_time()
            except (StreamClosedError, TimeoutError):  # it left, or does not read what it is told
                self._fail()
                self._stream.abort()
            except Exception as error:  # noqa: BLE001 - `run` raises it: whatever it is, the conversation is over (S11)
                self._fault = error
                self._fail()
                self._stream.abort()

    async def _stop_ticking(self) -> None:
        if self._ticking is not None:
            await self._ticking

    def _fail(self) -> None:
        self._state = ChannelState.FAILED

    async def _keep_time(self) -> None:
        if self._session is not None and time.monotonic() >= self._lease_until:
            await self._revoke_session(Reason.SESSION_REVOKED, "lease")
        revocations = self._revocations
        if revocations != self._revocations_seen and self._box.box_id is not None:
            await self._apply_revocations()
            self._revocations_seen = revocations
        if self._state not in _PROVEN:
            return
        if self._box.has_lapsed:
            await self._refuse(Refusal(Reason.RESULT_LAPSED))
        elif (renewal := self._box.renewal()) is not None:
            await self._send(renewal)

    async def _read(self) -> bytes:
        limit = m.SMALL_FRAME if self._state in _UNPROVEN else m.LARGE_FRAME
        async with asyncio.timeout(READ_SECONDS.get(self._state)):
            return await self._stream.read_frame(limit)

    async def _take(self, message: m.ToGateway) -> None:
        if self._state is ChannelState.FAILED:
            return  # it waited for a tick that ended the conversation
        try:
            following = self._following(message)
            answer = await self._answer(message)
            self._state = following
        except Refusal as refusal:
            await self._refuse(refusal)
        else:
            if answer is not None:
                await self._send(answer)

    def _following(self, message: m.ToGateway) -> ChannelState:
        """Return the state after `message`; Refusal if it is not for now, or if there were too many."""
        following = gateway_step(self._state, message)
        if following is ChannelState.FAILED:
            raise Refusal(Reason.PROTOCOL, f"{type(message).__name__} in state {self._state}")
        if isinstance(message, _COSTLY) and not self._costly.take(""):
            raise Refusal(Reason.TOO_MANY_REQUESTS)
        return following

    async def _answer(self, message: m.ToGateway) -> m.ToBox | None:  # noqa: PLR0911 - one per message
        match message:
            case m.Hello():
                return await self._box.challenge(message)
            case m.Activated():
                self._box.activate(message)
                return None
            case m.EvidenceMessage():
                return await self._attested(message)
            case m.CardProof():
                offers = await asyncio.to_thread(self._card.prove, message)
                await self._note("card", offers=" ".join(f"{offer.project}:{offer.reason or 'ok'}" for offer in offers))
                return m.Offers(offers, self._card.nonce(), self._services.renewals.issuer is not None)
            case m.Open():
                return await self._open(message)
            case m.Heartbeat():
                return self._beat(message)
            case m.Close():
                return await self._close(message)
            case m.RenewalRequest() | m.RenewalWritten():
                return await self._renew_certificate(message)

    async def _attested(self, message: m.EvidenceMessage) -> m.Attested:
        attested = await self._box.judge(message, self._card.nonce())
        await self._note("attested", remarks=self._box.remarks)
        return attested

    async def _open(self, message: m.Open) -> m.GrantMessage:
        """Let the card in: never two bubbles at once, and the peer is there before the answer (S5)."""
        container = await asyncio.to_thread(self._card.admit, message)
        bubble = self._services.bubbles[message.project]
        self._box.admit(bubble.config.box)
        await self._end_session("switch")
        if (left := self._left) is not None and self._services.bubbles[left.project].holds(left):
            raise Refusal(Reason.PROJECT_CLOSING, "the bubble before")
        self._session = await bubble.enter(message.tunnel_public, container.serial)
        self._lease_until = time.monotonic() + self._services.lease
        await self._note("opened", session=self._session.name, project=message.project, certificate=container.serial)
        return grant_message(bubble, self._session, self._services.lease, self._card.nonce())

    def _beat(self, message: m.Heartbeat) -> m.Heartbeat | m.Revoke:
        if self._session is None or self._session.name != message.session:
            return m.Revoke(message.session, Reason.SESSION_REVOKED)
        self._lease_until = time.monotonic() + self._services.lease
        return message

    async def _close(self, message: m.Close) -> m.Closed:
        """Closing what is not open any more is no error: a revocation may have crossed it on the way."""
        if self._session is not None and self._session.name == message.session:
            await self._end_session(message.cause)
        return m.Closed(message.session, self._card.nonce())

    async def _renew_certificate(self, message: m.RenewalRequest | m.RenewalWritten) -> m.ToBox:
        if isinstance(message, m.RenewalRequest):
            old = await asyncio.to_thread(self._card.renewing, message)
            await self._renewals.begin(old, message.request)
            return m.RenewalPending(message.project, self._card.nonce())
        new = await asyncio.to_thread(self._card.written, message)
        await asyncio.to_thread(self._card.renewed, await self._renewals.confirm(new), new)
        return m.RenewalClosed(message.project, self._card.nonce())

    async def _apply_revocations(self) -> None:
        if await asyncio.to_thread(self._box.is_revoked):
            await self._refuse(Refusal(Reason.SESSION_REVOKED, "box revoked"))
        elif self._session is not None:
            revoked = self._services.store.is_revoked
            if await asyncio.to_thread(revoked, RevocationKind.CERTIFICATE, self._session.serial):
                await self._revoke_session(Reason.CERTIFICATE_REVOKED, "certificate-revoked")
            elif await asyncio.to_thread(revoked, RevocationKind.SESSION, self._session.name):
                await self._revoke_session(Reason.SESSION_REVOKED, "session-revoked")

    async def _revoke_session(self, reason: Reason, cause: str) -> None:
        if (session := self._session) is not None:
            await self._end_session(cause)
            await self._send(m.Revoke(session.name, reason))

    async def _end_session(self, cause: str) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._left = session
            trouble = await self._services.bubbles[session.project].leave(session)
            await self._note("ended", session=session.name, project=session.project, cause=cause, trouble=trouble)

    async def _refuse(self, refusal: Refusal) -> None:
        """Say no, with the next nonce if the researcher can cure it; else end the session and the conversation."""
        fatal = self._state not in _PROVEN or refusal.reason not in _CURABLE
        await self._note("refused", reason=refusal.reason, detail=refusal.detail)
        if fatal:
            self._state = ChannelState.FAILED
            await self._end_session(refusal.reason)
        await self._send(m.Refused(refusal.reason, fatal, b"" if fatal else self._card.nonce()))
        if fatal:
            await self._stream.close()

    async def _send(self, message: m.ToBox) -> None:
        async with asyncio.timeout(WRITE_SECONDS):
            await self._stream.write(encode(message))

    async def _send_beside(self, message: m.ToBox) -> None:
        """Send what no message of the box has just asked for; nothing if the conversation is over."""
        async with self._lock:
            if self._state in _PROVEN:
                with contextlib.suppress(StreamClosedError, TimeoutError):  # `run` notices by itself
                    await self._send(message)

    async def _note(self, event: str, **fields: str) -> None:
        box = str(self._box.box_id) if self._box.box_id else ""
        await self._services.record.note(event, address=self._stream.peer_address, box=box, **fields)
