"""Cards without reader and module: the agent's own worker client at one end of the wire, a scripted card at the other.

What the agent starts as its worker is a small program that hands its socket on to here, where the real worker's loop
answers for a card that exists in name only. So a session costs milliseconds, and hundreds of them fit into a test.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sdbox.agent.card import CardSeat
from sdbox.bench.softtoken import PIN
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity, Container
from sdbox.smartcard.certificates import Scheme
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.frames import receive_ask
from sdbox.smartcard.values import CardInserted, LoginMethod, LoginRefused, LoginStatus
from sdbox.smartcard.variants import Variant
from sdbox.smartcard.worker import Worker, serve
from tests.service.gateway_bench import SoftSigner

MOST = 3
# What the agent starts: ADDRESS -m sdbox.smartcard.worker FD. It lives as long as the session.
RELAY = """#!/usr/bin/python3 -IS
import socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    socket.send_fds(line, [b"worker"], [int(sys.argv[4])])
    line.recv(1)
"""


class ScriptedCard:
    """A card with a retry counter. `asked` counts its comparisons: with a sensor, each begins without a touch."""

    def __init__(self, method: LoginMethod, containers: Sequence[tuple[str, SoftSigner]]) -> None:
        self.method = method
        self.tries = MOST
        self.asked = 0
        self.waiting = False
        self._finger: str | None = None
        self._keys = {bytes([index]): signer.key for index, (_, signer) in enumerate(containers)}
        held = enumerate(containers)
        self._containers = tuple(Container(bytes([i]), name, signer.chain[0], name) for i, (name, signer) in held)

    def touch(self, finger: str) -> bool:
        if self.waiting:
            self._finger = finger
        return self.waiting

    def session(self, line: socket.socket) -> ScriptedSession:
        return ScriptedSession(self, line)

    def compare(self, pin: bytes | None, line: socket.socket) -> bool | None:
        """Compare once; None if nobody touches the sensor while the worker at the end of `line` lives."""
        self.asked += 1
        right = pin == PIN.encode() if pin is not None else self._wait(line)
        if right is not None:
            self.tries = MOST if right else self.tries - 1
        return right

    def _wait(self, line: socket.socket) -> bool | None:
        self._finger, self.waiting = None, True
        try:
            while self._finger is None:
                if select.select([line], [], [], 0.002)[0]:
                    return None
            return self._finger == "good"
        finally:
            self.waiting = False

    def identity(self) -> CardIdentity:
        return CardIdentity(f"{id(self):x}", "scripted", self._containers)

    def sign(self, key_id: bytes, content: bytes) -> bytes:
        key = self._keys[key_id]
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key.sign(content, ec.ECDSA(hashes.SHA256()))


class ScriptedSession:
    """From reset to reset; what the worker takes for a back end."""

    def __init__(self, card: ScriptedCard, line: socket.socket) -> None:
        self._card, self._line = card, line

    def status(self) -> LoginStatus:
        tries = self._card.tries
        return LoginStatus(self._card.method, tries, final_try=tries == 1, blocked=tries == 0)

    def login(self, pin: bytearray | None, *, last_try: bool = False) -> CardIdentity:
        card = self._card
        if not card.tries:
            raise LoginRefused(Reason.CARD_BLOCKED, 0)
        if card.tries == 1 and not last_try:
            raise LoginRefused(Reason.CARD_LAST_TRY, 1, final_try=True)
        right = card.compare(None if pin is None else bytes(pin), self._line)
        if right is None:
            raise Refusal(Reason.CARD_FAILED, "gone")
        if not right:
            wrong = Reason.CARD_PIN if card.method is LoginMethod.PIN else Reason.CARD_FINGER
            reason = wrong if card.tries else Reason.CARD_BLOCKED
            raise LoginRefused(reason, card.tries, final_try=card.tries == 1)
        return card.identity()

    def sign(self, key_id: bytes, content: bytes, schemes: Sequence[int]) -> tuple[Scheme, bytes]:
        scheme = Scheme.ECDSA_SECP256R1_SHA256
        if scheme not in schemes:
            raise Refusal(Reason.CARD_PROOF, "no scheme that fits")
        return scheme, self._card.sign(key_id, content)

    def close(self) -> None:
        """Nothing is open."""


class ScriptedReader:
    """Where workers of the card in hand, the first of `cards`, find their card."""

    def __init__(self, folder: Path) -> None:
        self.cards: list[ScriptedCard] = []
        self._relay = folder / "relay"
        self._relay.write_text(RELAY)
        self._relay.chmod(0o755)
        self._address = folder / "reader.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._address))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def seat(self, inserted: CardInserted) -> CardSeat:
        return ScriptedSeat(inserted, self.cards[0].method, (str(self._relay), str(self._address)))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._work, args=(line, self.cards[0]), daemon=True).start()

    @staticmethod
    def _work(line: socket.socket, card: ScriptedCard) -> None:
        with line:
            _, descriptors, _, _ = socket.recv_fds(line, 16, 1)
            if descriptors:
                with socket.socket(fileno=descriptors[0]) as link:
                    receive_ask(link)  # which card it has: this one
                    worker = Worker("softhsm", "")
                    worker._session = card.session(line)
                    serve(link, worker)


class ScriptedSeat(CardSeat):
    """A seat whose worker is the relay."""

    def __init__(self, inserted: CardInserted, method: LoginMethod, program: Sequence[str]) -> None:
        super().__init__(inserted, user=None, token="piv" if method is LoginMethod.PIN else "sc-hsm-bio")
        self._program = program

    async def _start(self, variant: Variant) -> CardWorker:
        self._worker = await CardWorker.start(variant, self.reader, python=self._program)
        return self._worker
