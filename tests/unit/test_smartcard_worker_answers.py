"""What the card worker says when something happens that nobody foresaw."""

from __future__ import annotations

from sdbox.smartcard.frames import AskClose, AskLogin, AskSign, TellClosed, TellRefused
from sdbox.smartcard.worker import Worker


class OddSession:
    """A card that breaks the code that reads it."""

    def status(self) -> None:
        raise ZeroDivisionError

    def login(self, pin: bytearray | None, *, last_try: bool = False) -> None:
        raise UnicodeDecodeError("utf-8", bytes(pin or b""), 0, int(last_try), "the PIN is in here")

    def sign(self, key_id: bytes, content: bytes, schemes: object) -> None:
        raise KeyError(key_id, content, schemes)

    def close(self) -> None:
        """Nothing."""


def test_an_exception_nobody_expected_is_an_answer_too() -> None:
    """The worker goes on, to reset the card; neither value nor PIN is told."""
    worker = Worker("piv", "")
    worker._session = OddSession()  # type: ignore[assignment]
    pin = bytearray(b"123456")
    assert worker.answer(AskLogin(pin)) == TellRefused("card-failed", "unexpected UnicodeDecodeError")
    assert not any(pin)
    assert worker.answer(AskSign(b"1", b"", ())) == TellRefused("card-failed", "unexpected KeyError")
    assert worker.answer(AskClose()) == TellClosed()
