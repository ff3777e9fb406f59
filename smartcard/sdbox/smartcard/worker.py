"""The card worker: `python3 -m sdbox.smartcard.worker FD VARIANT READER`, one process per inserted card.

It answers the questions of `frames` on the inherited socket FD, one after another, in one thread. When the agent
closes the socket, or asks for it, it resets the card and ends. It may hang in the card at any time: the agent has the
deadlines and kills it.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Final, NoReturn

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.frames import (
    Ask,
    AskClose,
    AskLogin,
    AskSign,
    AskStatus,
    FrameError,
    Tell,
    TellClosed,
    TellContainer,
    TellIdentity,
    TellRefused,
    TellSignature,
    TellStatus,
    receive_ask,
    send_frame,
    wipe,
)
from sdbox.smartcard.hardening import harden_process
from sdbox.smartcard.pkcs11_backend import CardSession
from sdbox.smartcard.values import LoginRefused
from sdbox.smartcard.variants import variant_named

ARGUMENTS: Final = 4


class Worker:
    """Opens the card at the first question, so that a failure to open is an answer."""

    def __init__(self, variant: str, reader: str) -> None:
        self._variant = variant
        self._reader = reader
        self._session: CardSession | None = None

    def answer(self, ask: Ask) -> Tell:
        """Answer one question; a refusal is an answer too."""
        try:
            return self._try_answer(ask)
        except LoginRefused as refused:
            return TellRefused(refused.reason.value, refused.detail, refused.tries, refused.final_try)
        except Refusal as refused:
            return TellRefused(refused.reason.value, refused.detail)

    def close(self) -> None:
        """End the card session with a reset; Refusal if the card is gone."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _try_answer(self, ask: Ask) -> Tell:
        if isinstance(ask, AskClose):
            self.close()
            return TellClosed()
        if self._session is None:
            self._session = CardSession(variant_named(self._variant), self._reader)
        if isinstance(ask, AskLogin):
            try:
                return _identity(self._session.login(ask.pin, last_try=ask.last_try))
            finally:
                wipe(ask.pin)
        if isinstance(ask, AskSign):
            scheme, signature = self._session.sign(ask.key_id, ask.content, ask.schemes)
            return TellSignature(int(scheme), signature)
        if isinstance(ask, AskStatus):
            status = self._session.status()
            return TellStatus(status.method, status.tries, status.final_try, status.blocked)
        raise Refusal(Reason.INTERNAL, "unknown question")


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
    except (FrameError, OSError):
        worker.answer(AskClose())  # the agent is gone


def main() -> NoReturn:
    """Run; ends without Python's clean-up, in which SoftHSM may crash (SoftHSMv2 #729)."""
    if len(sys.argv) != ARGUMENTS or not sys.argv[1].isdigit():
        sys.exit("usage: python3 -m sdbox.smartcard.worker FD VARIANT READER")
    harden_process()
    with socket.socket(fileno=int(sys.argv[1])) as link:
        serve(link, Worker(sys.argv[2], sys.argv[3]))
    os._exit(0)


if __name__ == "__main__":
    main()
