"""The card worker: `python3 -m sdbox.smartcard.worker FD`, one process per inserted card.

On the inherited socket FD it is told of its card first, and may have to wait for that (`spare.py`); then it answers the
questions of `frames`, one after another, in one thread. When the agent closes the socket, or asks for it, it resets the
card and ends. It may hang in the card at any time: the agent has the deadlines and kills it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import socket
import sys
from collections.abc import Sequence
from typing import Final, NoReturn, Protocol, runtime_checkable

from cryptography.exceptions import UnsupportedAlgorithm

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity, Container
from sdbox.smartcard.certificates import Scheme
from sdbox.smartcard.frames import (
    Ask,
    AskCard,
    AskClose,
    AskLogin,
    AskOpen,
    AskRenewal,
    AskRenewalKey,
    AskRenewalRequest,
    AskRenewalRetire,
    AskRenewalWrite,
    AskSign,
    AskStatus,
    FrameError,
    Tell,
    TellClosed,
    TellContainer,
    TellIdentity,
    TellOpen,
    TellRefused,
    TellRenewal,
    TellSignature,
    TellStatus,
    receive_ask,
    send_frame,
    wipe,
)
from sdbox.smartcard.glimpse import glimpse
from sdbox.smartcard.hardening import harden_process
from sdbox.smartcard.renewal import Renewing
from sdbox.smartcard.values import LoginRefused, LoginStatus
from sdbox.smartcard.variants import Backend, Variant, variant_named

ARGUMENTS: Final = 2


class CardSession(Protocol):
    """A card from reset to reset, whatever talks to it. Every method raises Refusal."""

    def status(self) -> LoginStatus:
        """Return the retry counter; costs no try."""

    def login(self, pin: bytearray | None, *, last_try: bool = False) -> CardIdentity:
        """Verify the holder with at most one VERIFY, the last one only if `last_try`; read the containers."""

    def sign(self, key_id: bytes, content: bytes, schemes: Sequence[int]) -> tuple[Scheme, bytes]:
        """Sign with the first scheme that fits the key."""

    def close(self) -> None:
        """Reset the card."""


@runtime_checkable
class RenewableSession(CardSession, Protocol):
    """A card whose containers the box can renew."""

    def container(self, certificate: bytes) -> Container:
        """Return the container with exactly this certificate."""

    def renewal(self, certificate: bytes) -> Renewing:
        """Return that container, to be renewed on the card."""

    def read_again(self) -> CardIdentity:
        """Return the containers as they are after writing."""


def open_session(variant: Variant, reader: str) -> CardSession:
    """Begin a session with the card in `reader`. A worker loads only what its variant needs."""
    if variant.backend is Backend.APDU_OCC:
        from sdbox.smartcard.occ_backend import OccSession  # noqa: PLC0415

        return OccSession(variant, reader)
    from sdbox.smartcard.pkcs11_backend import Pkcs11Session  # noqa: PLC0415

    return Pkcs11Session(variant, reader)


class Worker:
    """Opens the card at the first question, so that a failure to open is an answer; or after it, if it could wait."""

    def __init__(self, variant: str, reader: str) -> None:
        self._variant = variant
        self._reader = reader
        self._session: CardSession | None = None
        self._glimpsed = False

    def answer(self, ask: Ask) -> Tell:
        """Answer one question; a refusal is an answer too."""
        try:
            return self._try_answer(ask)
        except LoginRefused as refused:
            return TellRefused(refused.reason.value, refused.detail, refused.tries, refused.final_try)
        except Refusal as refused:
            return TellRefused(refused.reason.value, refused.detail)
        except Exception as error:  # noqa: BLE001 - nothing on a card may end the worker: it would leave the card open
            return TellRefused(Reason.CARD_FAILED.value, f"unexpected {type(error).__name__}")

    def go_ahead(self) -> None:
        """Open the card after a first look at it, while the user types; what fails is the next answer's to say."""
        if self._glimpsed and self._session is None:
            with contextlib.suppress(Exception):
                self._session = open_session(variant_named(self._variant), self._reader)

    def close(self) -> None:
        """End the card session with a reset; Refusal if the card is gone."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _try_answer(self, ask: Ask) -> Tell:
        if isinstance(ask, AskClose):
            self.close()
            return TellClosed()
        if isinstance(ask, AskStatus) and self._session is None and not self._glimpsed:
            self._glimpsed = True
            if (first := glimpse(variant_named(self._variant), self._reader)) is not None:
                return _told(first)
        if self._session is None:
            self._session = open_session(variant_named(self._variant), self._reader)
        return _ask_card(self._session, ask)


def _ask_card(session: CardSession, ask: Ask) -> Tell:
    if isinstance(ask, AskOpen):
        return TellOpen()
    if isinstance(ask, AskLogin):
        try:
            return _identity(session.login(ask.pin, last_try=ask.last_try))
        finally:
            wipe(ask.pin)
    if isinstance(ask, AskSign):
        scheme, signature = session.sign(ask.key_id, ask.content, ask.schemes)
        return TellSignature(int(scheme), signature)
    if isinstance(ask, AskRenewal):
        return _renew(session, ask)
    if isinstance(ask, AskStatus):
        return _told(session.status())
    raise Refusal(Reason.INTERNAL, "unknown question")


def _told(status: LoginStatus) -> TellStatus:
    return TellStatus(status.method, status.tries, status.final_try, status.blocked)


def _renew(session: CardSession, ask: AskRenewal) -> Tell:
    """Do one step of a renewal."""
    if not isinstance(session, RenewableSession):
        raise Refusal(Reason.RENEWAL_FAILED, "such cards are not renewed by a box")
    try:
        return _renew_step(session, ask)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
    ) as error:  # strange keys must not end the session
        raise Refusal(Reason.RENEWAL_FAILED, f"{type(ask).__name__}: {type(error).__name__}") from error


def _renew_step(session: RenewableSession, ask: AskRenewal) -> Tell:
    renewing = session.renewal(ask.certificate)
    match ask:
        case AskRenewalKey():
            return TellRenewal(renewing.new_key())
        case AskRenewalRequest():
            return TellRenewal(renewing.request(ask.key_id))
        case AskRenewalWrite():
            renewing.write(ask.key_id, ask.new)
        case AskRenewalRetire():
            renewing.retire(session.container(ask.new))
    return _identity(session.read_again())


def _identity(card: CardIdentity) -> TellIdentity:
    containers = tuple(TellContainer(c.key_id, c.label, c.certificate, c.project) for c in card.containers)
    return TellIdentity(card.serial, containers)


def serve(link: socket.socket, worker: Worker) -> None:
    """Answer until the agent closes the socket or asks to close; the card is then reset."""
    try:
        while True:
            ask = receive_ask(link)
            send_frame(link, worker.answer(ask))
            if isinstance(ask, AskClose):
                return
            worker.go_ahead()
    except (FrameError, OSError):
        worker.answer(AskClose())  # the agent is gone


def wait_for_card(link: socket.socket) -> Worker:
    """Return the worker for the card that the agent names; FrameError if it closes the socket without.

    While there is none yet, what most variants need is loaded.
    """
    if not select.select([link], [], [], 0)[0]:
        importlib.import_module("sdbox.smartcard.pkcs11_backend")
    ask = receive_ask(link)
    if not isinstance(ask, AskCard):
        raise FrameError("the first question is not about the card")
    variant = variant_named(ask.variant)
    if variant.module is not None and variant.module.driver is not None:
        os.environ["OPENSC_DRIVER"] = variant.module.driver  # the other drivers' questions are then never sent
    return Worker(ask.variant, ask.reader)


def main() -> NoReturn:
    """Run; ends without Python's clean-up, in which SoftHSM may crash (SoftHSMv2 #729)."""
    if len(sys.argv) != ARGUMENTS or not sys.argv[1].isdigit():
        sys.exit("usage: python3 -m sdbox.smartcard.worker FD")
    harden_process()
    with socket.socket(fileno=int(sys.argv[1])) as link, contextlib.suppress(FrameError):
        serve(link, wait_for_card(link))
    os._exit(0)


if __name__ == "__main__":
    main()
