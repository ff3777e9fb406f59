"""The mechanics under `Channel`: one reader task, the state table, one request at a time, and the way it all ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

from sdbox.agent.channel.parties import Event, Lost, Renewed, Revoked
from sdbox.protocol import messages as m
from sdbox.protocol.contexts import NONCE_SIZE
from sdbox.protocol.reasons import Reason, Refusal, parse_reason
from sdbox.protocol.states import ChannelState, box_step
from sdbox.protocol.tls import StreamClosedError, TlsStream
from sdbox.protocol.values import AttestationResult
from sdbox.protocol.wire import WireError, decode_to_box, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

ANSWER_SECONDS: Final = 15.0
BEAT_SECONDS: Final = 5.0
ISSUE_SECONDS: Final = 120.0  # the centre asks a CA, maybe another house's
_WITH_NONCE: Final = (
    *(m.Attested, m.Offers, m.GrantMessage, m.Closed, m.Refused),
    *(m.RenewalPending, m.RenewalClosed),
)
_M = TypeVar("_M", bound=m.Message)
_T = TypeVar("_T")


class Link:
    """A connection on which the box asks and the gateway answers. `renew` is run for each Renew, with its nonce."""

    def __init__(self, stream: TlsStream, renew: Callable[[bytes], Awaitable[None]]) -> None:
        """Take over `stream` and start reading it; needs a running event loop."""
        self.state = ChannelState.NEW
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._stream = stream
        self._renew = renew
        self._renewing = False
        self._nonce = b""
        self._failure: Reason | None = None
        self._expected: type[m.Message] = m.Message
        self._answer: asyncio.Future[m.Message] | None = None
        self._beats: dict[str, asyncio.Future[None]] = {}
        self._issues: dict[str, asyncio.Future[m.RenewalIssued]] = {}
        self._settling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._watch(self._spawn(self._receive()))

    def nonce(self) -> bytes:
        """Return the nonce of the gateway's last message: the next card signature is made for it."""
        self._check_alive()
        if not self._nonce:
            raise Refusal(Reason.PROTOCOL, "no nonce yet: attest first")
        return self._nonce

    async def ask(self, message: m.Message, expected: type[_M]) -> _M:
        """Send a request and return its answer. If cancelled, the answer is still awaited and a grant given back."""
        exchange = self._spawn(self._exchange(message, expected))
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            self._settling = self._spawn(self._give_back(exchange))
            raise

    async def settled(self) -> None:
        """Wait until the answer to a cancelled request has come, so that the next answer is the next request's."""
        if self._settling is not None:
            await asyncio.shield(self._settling)
        self._check_alive()

    async def send(self, message: m.Message) -> None:
        """Send a message that has no answer."""
        self._check_alive()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._stream.write(encode(message))
        except (TimeoutError, StreamClosedError) as error:
            self.fail(Reason.GATEWAY_UNREACHABLE)
            raise Refusal(Reason.GATEWAY_UNREACHABLE, f"{type(message).__name__} could not be sent") from error

    async def beat(self, session: str) -> None:
        """Send a heartbeat and wait for its echo."""
        if session in self._beats:
            raise Refusal(Reason.GATEWAY_UNREACHABLE, "the last heartbeat is still without an echo")
        echo = self._beats[session] = asyncio.get_running_loop().create_future()
        try:
            await self.send(m.Heartbeat(session))
            async with asyncio.timeout(BEAT_SECONDS):
                await echo
        except TimeoutError as error:
            raise Refusal(Reason.GATEWAY_UNREACHABLE, "no echo of a heartbeat within its deadline") from error
        finally:
            del self._beats[session]

    def expect_issue(self, project: str) -> asyncio.Future[m.RenewalIssued]:
        """Return what RenewalIssued for `project` will fulfil; to be called before the request is sent."""
        waiting = self._issues.get(project)
        if waiting is not None and not waiting.done():
            raise Refusal(Reason.RENEWAL_FAILED, "this project is being renewed already")
        self._issues[project] = asyncio.get_running_loop().create_future()
        return self._issues[project]

    def fail(self, reason: Reason) -> None:
        """End the conversation for `reason`: whoever waits gets the Refusal, `Lost` is the last event. Idempotent."""
        self._end(reason, Lost(reason))
        self._stream.abort()

    async def close(self) -> None:
        """Leave in peace: no event, close_notify, all tasks done."""
        self._end(Reason.GATEWAY_UNREACHABLE, None)
        for task in (pending := tuple(self._tasks)):
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._stream.close()

    def _end(self, reason: Reason, event: Event | None) -> None:
        if self._failure is not None:
            return
        self._failure, self.state = reason, ChannelState.FAILED
        for waiting in (self._answer, *self._beats.values(), *self._issues.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(Refusal(reason, "the channel ended"))
        if event is not None:
            self.events.put_nowait(event)
        self.events.put_nowait(None)

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise Refusal(self._failure, "the channel has ended")

    async def _exchange(self, message: m.Message, expected: type[_M]) -> _M:
        self._check_alive()
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._expected = expected
        try:
            await self.send(message)
            async with asyncio.timeout(ANSWER_SECONDS):
                received = await answer
        except TimeoutError as error:
            self.fail(Reason.GATEWAY_UNREACHABLE)
            raise Refusal(Reason.GATEWAY_UNREACHABLE, f"no answer to {type(message).__name__} in time") from error
        finally:
            self._answer = None
            if answer.done() and not answer.cancelled():
                answer.exception()  # marked as seen: the send may have failed first
        if not isinstance(received, expected):
            raise Refusal(Reason.PROTOCOL, "an answer of another kind")
        return received

    async def _give_back(self, exchange: asyncio.Task[_M]) -> None:
        with contextlib.suppress(Refusal):
            message = await exchange
            if isinstance(message, m.GrantMessage):
                await self._exchange(m.Close(message.session, "failed"), m.Closed)

    async def _receive(self) -> None:
        try:
            while self._failure is None:
                self._take(decode_to_box(await self._stream.read_frame(m.LARGE_FRAME)))
        except WireError:
            self.fail(Reason.PROTOCOL)
        except StreamClosedError:
            self.fail(Reason.GATEWAY_UNREACHABLE)

    def _take(self, message: m.Message) -> None:
        """Apply one message. The table comes first; only a fatal Refused is allowed in every state."""
        if isinstance(message, m.Refused) and message.fatal:
            self.fail(parse_reason(message.code))
            return
        self.state = box_step(self.state, message)
        if self.state is ChannelState.FAILED or not self._take_nonce(message):
            self.fail(Reason.PROTOCOL)
        elif isinstance(message, m.Renew):
            self._take_renew(message)
        elif isinstance(message, m.Attested) and self._renewing:
            self._renewing = False
            self.events.put_nowait(Renewed(AttestationResult(message.ear, message.seconds)))
        elif isinstance(message, m.Heartbeat):
            self._echo(message.session, None)
        elif isinstance(message, m.Revoke):
            reason = parse_reason(message.code)
            self.events.put_nowait(Revoked(message.session, reason))
            self._echo(message.session, Refusal(reason, "the session is over"))
        elif isinstance(message, m.RenewalIssued):
            self._take_issue(message)
        else:
            self._deliver(message)

    def _take_nonce(self, message: m.Message) -> bool:
        """Keep the nonce for the next card signature; False if it has not the size of one."""
        if isinstance(message, _WITH_NONCE):
            self._nonce = message.nonce
            return len(message.nonce) == NONCE_SIZE
        return True

    def _take_renew(self, message: m.Renew) -> None:
        if self._renewing or len(message.nonce) != NONCE_SIZE:
            self.fail(Reason.PROTOCOL)
            return
        self._renewing = True
        self._watch(self._spawn(self._run_renew(message.nonce)))

    async def _run_renew(self, nonce: bytes) -> None:
        await self._renew(nonce)

    def _take_issue(self, message: m.RenewalIssued) -> None:
        """Hand a certificate to whoever waits for it; one that comes too late is nobody's, one unasked for is wrong."""
        waiting = self._issues.get(message.project)
        if waiting is None:
            self.fail(Reason.PROTOCOL)
        elif not waiting.done():
            waiting.set_result(message)

    def _echo(self, session: str, refusal: Refusal | None) -> None:
        """Wake whoever waits for this heartbeat; an echo that comes too late is nobody's."""
        echo = self._beats.get(session)
        if echo is None or echo.done():
            return
        if refusal is None:
            echo.set_result(None)
        else:
            echo.set_exception(refusal)

    def _deliver(self, message: m.Message) -> None:
        """Hand an answer to the request that waits for it; an answer without a question ends the channel."""
        answer = self._answer
        if answer is None or answer.done():
            self.fail(Reason.PROTOCOL)
        elif isinstance(message, m.Refused):
            answer.set_exception(Refusal(parse_reason(message.code), "the gateway refused"))
        elif isinstance(message, self._expected):
            answer.set_result(message)
        else:
            self.fail(Reason.PROTOCOL)

    def _spawn(self, work: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _watch(self, task: asyncio.Task[None]) -> None:
        """End the channel if a task of its own dies (S11): a renewal that cannot be made must not go unnoticed."""
        task.add_done_callback(self._died)

    def _died(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.fail(error.reason if isinstance(error, Refusal) else Reason.INTERNAL)
