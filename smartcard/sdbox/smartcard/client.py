"""The agent's side of the card worker: one process per inserted card, a deadline on every call, killed on removal."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Sequence
from typing import Final, Self, TypeVar

from sdbox.protocol.reasons import Reason, Refusal, parse_reason
from sdbox.protocol.values import CardIdentity, Container
from sdbox.smartcard.card_process import Runner
from sdbox.smartcard.frames import (
    Ask,
    AskCard,
    AskClose,
    AskLogin,
    AskOpen,
    AskSign,
    AskStatus,
    FrameError,
    Tell,
    TellClosed,
    TellContainer,
    TellIdentity,
    TellOpen,
    TellRefused,
    TellSignature,
    TellStatus,
    decode_tell,
    encode_frame,
    frame_length,
    wipe,
)
from sdbox.smartcard.spare import Spare, WaitingWorker
from sdbox.smartcard.values import LoginRefused, LoginStatus
from sdbox.smartcard.variants import Variant

CALL_DEADLINE: Final = 30.0  # the first call loads the module and reads the card's directory: seconds under emulation
CLOSE_DEADLINE: Final = 5.0
RESET_DEADLINE: Final = 5.0
_NO_TRY_SPENT: Final = {Reason.CARD_TIMEOUT, Reason.CARD_SENSOR, Reason.CARD_UNCLEAR, Reason.CARD_LAST_TRY}
LOGIN_REASONS: Final = {Reason.CARD_FINGER, Reason.CARD_PIN, Reason.CARD_BLOCKED, *_NO_TRY_SPENT}

T = TypeVar("T", bound=Tell)


class CardWorker:
    """A card session in its own process. After any failure but a refused login it is dead: start another."""

    def __init__(self, variant: Variant, reader: str, worker: WaitingWorker) -> None:
        self.silent = False  # it did not answer in time
        self._variant = variant
        self._reader = reader
        self._runner = worker.runner
        self._process = worker.process
        self._link = worker.link
        self._pulled = False
        self._resetting: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._urgent = 0  # calls that somebody waits for
        self._calm = asyncio.Event()
        self._calm.set()

    @classmethod
    async def start(
        cls,
        variant: Variant,
        reader: str,
        *,
        user: str | None = None,
        python: Sequence[str] = (sys.executable,),
        spare: Spare | None = None,
    ) -> Self:
        """Start the worker for the card in `reader` (PC/SC name; "" for a variant without reader), as `user`.

        `python` is the command of the interpreter that runs it: another root's, for instance. With `spare` it is the
        one that waits there, so that only the card is still to be opened.
        """
        waiting = await (spare.take() if spare else WaitingWorker.start(Runner(user, tuple(python))))
        worker = cls(variant, reader, waiting)
        try:
            await asyncio.get_running_loop().sock_sendall(waiting.link, encode_frame(AskCard(variant.name, reader)))
        except OSError as error:
            await worker.close()
            raise Refusal(Reason.CARD_FAILED, f"the card worker ended before its card: {error.strerror}") from error
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def status(self) -> LoginStatus:
        """Return how the holder is verified and the card's retry counter; costs no try."""
        told = await self._call(AskStatus(), TellStatus, CALL_DEADLINE)
        return LoginStatus(told.method, told.tries, told.final_try, told.blocked)

    async def login(self, pin: bytearray | None, *, last_try: bool = False) -> CardIdentity:
        """Verify the holder with exactly one VERIFY (S7) and return the card. `pin` is wiped here, whatever happens.

        A card that one more mistake would block is not asked at all unless `last_try`: LoginRefused(CARD_LAST_TRY).
        LoginRefused if the card says no; Refusal(CARD_FAILED) if it does not answer. Whoever types quickly waits first
        for the card to be read: that has a deadline of its own, and takes nothing of the login's.
        """
        try:
            await self._call(AskOpen(), TellOpen, CALL_DEADLINE)
            told = await self._call(AskLogin(pin, last_try), TellIdentity, self._variant.login.deadline)
        finally:
            wipe(pin)
        return self.identity(told)

    def identity(self, told: TellIdentity) -> CardIdentity:
        return CardIdentity(told.serial, self._variant.name, tuple(_container(item) for item in told.containers))

    async def sign(self, key_id: bytes, content: bytes, schemes: Sequence[int]) -> tuple[int, bytes]:
        """Return the first of the TLS `schemes` that fits the key, and the signature of `content` (ECDSA: DER).

        Refusal(CARD_PROOF) if no scheme fits, Refusal(CARD_FAILED) if it is no longer the card that was verified.
        """
        told = await self._call(AskSign(key_id, content, tuple(schemes)), TellSignature, CALL_DEADLINE)
        return told.scheme, told.signature

    def kill(self) -> None:
        """End the worker of a card that is gone, at once; a call under way raises. Call `close` afterwards."""
        self._pulled = True
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)  # closing it would leave a call under way waiting for its deadline

    async def close(self) -> None:
        """End the card session with a card reset, so that no other process can sign; then end the worker."""
        try:
            async with asyncio.timeout(CLOSE_DEADLINE):  # a call under way may take longer: a key is being made
                await self._call(AskClose(), TellClosed, CLOSE_DEADLINE)
        except (Refusal, TimeoutError):
            await self._break_off()  # the worker is gone or hangs
        finally:
            self._end()
            await self._process.wait()
            async with self._turn:  # what was under way has seen its end
                self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def patiently(self, ask: Ask, expected: type[T], deadline: float) -> T:
        """Ask when nobody who waits for an answer wants the card: work in the background has the last turn."""
        await self._calm.wait()
        return await self._ask(ask, expected, deadline)

    async def _call(self, ask: Ask, expected: type[T], deadline: float) -> T:
        self._urgent += 1
        self._calm.clear()
        try:
            return await self._ask(ask, expected, deadline)
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._calm.set()

    async def _ask(self, ask: Ask, expected: type[T], deadline: float) -> T:
        """Ask once. Anything but a proper answer in time kills the worker: its stream is no longer in step.

        A signature that nobody waits for any more is still taken from the worker, under its deadline, and the next
        question comes after it: the card session goes on. Whoever gives up on anything else ends the session.
        """
        asking = asyncio.ensure_future(self._take_turn(ask, expected, deadline))
        asking.add_done_callback(_heard)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            if not isinstance(ask, AskSign):
                self._end()
            raise

    async def _take_turn(self, ask: Ask, expected: type[T], deadline: float) -> T:
        async with self._turn:
            try:
                return await self._question(ask, expected, deadline)
            except Refusal as refusal:
                if refusal.reason in (Reason.CARD_FAILED, Reason.CARD_UNTRUSTED):
                    await self._break_off()  # it may be another card by now
                raise

    async def _question(self, ask: Ask, expected: type[T], deadline: float) -> T:
        try:
            async with asyncio.timeout(deadline):
                told = await self._exchange(ask)
        except TimeoutError as error:
            self.silent = True
            raise Refusal(Reason.CARD_FAILED, f"{type(ask).__name__}: no answer in {deadline:g} s") from error
        except (OSError, FrameError) as error:
            raise Refusal(Reason.CARD_FAILED, f"{type(ask).__name__}: the card worker ended") from error
        if isinstance(told, TellRefused):
            raise _refusal(told)
        if not isinstance(told, expected):
            raise Refusal(Reason.CARD_FAILED, f"{type(ask).__name__}: unexpected {type(told).__name__}")
        return told

    async def _break_off(self) -> None:
        """End the worker as it is, and reset its card, within RESET_DEADLINE: it may have been left open.

        pcscd resets a card whose owner died in a transaction. OpenSC holds one from login on (lock_login), ykcs11 none.
        """
        self._end()
        if self._pulled or not self._reader:
            return
        if self._resetting is None:
            self._resetting = asyncio.ensure_future(self._reset_card())
        await asyncio.shield(self._resetting)

    async def _reset_card(self) -> None:
        await self._process.wait()
        with contextlib.suppress(Refusal):  # there is none any more, or nothing moves it
            await self._runner.errand("reset", self._reader, deadline=RESET_DEADLINE)

    async def _exchange(self, ask: Ask) -> Tell:
        loop = asyncio.get_running_loop()
        frame = encode_frame(ask)
        try:
            await loop.sock_sendall(self._link, frame)
        finally:
            wipe(frame)
        header = await self._receive(4)
        return decode_tell(await self._receive(frame_length(header)))

    async def _receive(self, size: int) -> bytearray:
        loop, buffer = asyncio.get_running_loop(), bytearray()
        while len(buffer) < size:
            part = await loop.sock_recv(self._link, size - len(buffer))
            if not part:
                raise FrameError("the worker closed the socket")
            buffer += part
        return buffer


def _heard(asking: asyncio.Future[T]) -> None:
    """Take note of a refusal that nobody waits for any more: the loop would report it as lost, and the agent fail."""
    if not asking.cancelled():
        asking.exception()


def _container(item: TellContainer) -> Container:
    return Container(item.key_id, item.label, item.certificate, item.project)


def _refusal(told: TellRefused) -> Refusal:
    reason = parse_reason(told.code)
    if reason in LOGIN_REASONS:
        return LoginRefused(reason, told.tries, told.detail, final_try=told.final_try)
    return Refusal(reason, told.detail)
