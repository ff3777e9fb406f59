"""PIV cards with on-card comparison, by APDU (SP 800-73-5 part 2; SP 800-76-2). Runs in the card worker only.

OpenSC does no on-card comparison, and its PKCS#11 module hides the private keys of a card that was opened past it:
so this back end signs by APDU too. Rules:
- each use of the card is one PC/SC transaction that begins with SELECT. The one in which the finger is verified stays
  open until the session ends, and ends with a card reset: nobody else can talk to a card that is open;
- one touch gives one template, and one template at most one VERIFY (S7). What the sensor or the conversion refuses
  costs no try;
- the card that gets the template is the one that was inserted: PC/SC's count of insertions and the card's GUID.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity, Container
from sdbox.smartcard.bit import EnrolledFinger
from sdbox.smartcard.card_use import left_in, sign_as
from sdbox.smartcard.certificates import PublicKey, Scheme, project_of
from sdbox.smartcard.frames import wipe
from sdbox.smartcard.minutiae import TemplateError, card_template
from sdbox.smartcard.pcsc import CardLine, PcscError, open_inserted
from sdbox.smartcard.piv import PivApplication, PivError, Verdict
from sdbox.smartcard.sensor import SensorError, SerialSensor, TouchSensor, sensor_path
from sdbox.smartcard.values import LoginMethod, LoginRefused, LoginStatus
from sdbox.smartcard.variants import Variant

TOUCH_SECONDS: Final = 30.0


class OccSession:
    """One card from reset to reset. Every method raises Refusal."""

    def __init__(self, variant: Variant, reader: str, sensor: TouchSensor | None = None) -> None:
        self._variant = variant
        self._reader = reader
        self._sensor = sensor or SerialSensor(sensor_path())
        self._identity: CardIdentity | None = None
        self._serial: str | None = None
        self._tries: int | None = None  # as the card said last
        self._looked = False  # ... in the look that the next question may do with
        with _translated("open"):
            self._inserted = open_inserted(reader)  # nobody's earlier login is ours
            self._line = CardLine(reader)
        self._card = PivApplication(self._line.transmit, bytes.fromhex(variant.aid or ""))
        try:
            self._finger = self._look()
        except Refusal:
            self._give_up()
            raise

    def status(self) -> LoginStatus:
        """Return the retry counter (unknown once logged in, as in the other back end); costs no try."""
        if self._identity is not None:
            return LoginStatus(LoginMethod.FINGER, None, final_try=False, blocked=False)
        looked, self._looked = self._looked, False
        if not looked:
            with self._transaction("status"):
                self._tries = self._card.counter(self._finger.reference).tries
        return LoginStatus(LoginMethod.FINGER, self._tries, self._tries == 1, self._tries == 0)

    def login(self, pin: bytearray | None, *, last_try: bool = False) -> CardIdentity:
        """Ask for one touch, verify the holder with it, once, and read the containers. Never called again by itself.

        The last try is spent only if `last_try`: whoever asks has the user's word for it.
        """
        if self._identity is not None or pin is not None:
            raise Refusal(Reason.INTERNAL, "a login that the card's state or variant does not allow")
        with _translated("login"):
            self._same_card()
        _may_try(self._tries, last_try=last_try)  # a finger is not asked for in vain; the card is asked again below
        template = self._touch(self._tries)
        try:
            self._open_with(template, last_try=last_try)
        finally:
            wipe(template)
        self._identity = self._read_containers()
        return self._identity

    def sign(self, key_id: bytes, content: bytes, schemes: Sequence[int]) -> tuple[Scheme, bytes]:
        """Sign with the first scheme that fits the container's key; the signature is checked before it leaves."""

        def sign(key: PublicKey, scheme: Scheme) -> bytes:
            with _translated("sign"):
                self._same_card()
                return self._card.sign(key_id[0], key, scheme, content)

        return sign_as(self._identity, key_id, content, schemes, sign)

    def close(self) -> None:
        """End the session and reset the card."""
        with suppress(PivError, PcscError):  # the reset below is what counts
            if self._identity is not None:
                self._card.forget(self._finger.reference)
        self._identity = None
        with _translated("close"):
            self._line.close()

    def _touch(self, tries: int | None) -> bytearray:
        """Return the card's template of one touch; LoginRefused without a try if there is none."""
        try:
            record = self._sensor.capture(min(TOUCH_SECONDS, self._variant.login.deadline / 2))
        except SensorError as error:
            raise LoginRefused(Reason.CARD_SENSOR, tries, str(error)) from error
        if record is None:
            raise LoginRefused(Reason.CARD_TIMEOUT, tries)
        try:
            return card_template(record, self._finger.limits)
        except TemplateError as error:
            raise LoginRefused(Reason.CARD_UNCLEAR, tries, str(error)) from error
        finally:
            wipe(record)

    def _open_with(self, template: bytearray, *, last_try: bool) -> None:
        """VERIFY, once. The transaction stays open if the card accepts, else it ends."""
        with _translated("login"):
            self._begin()
            try:
                # Asked again within the transaction: while the finger was awaited others could talk to the card.
                self._tries = tries = self._card.counter(self._finger.reference).tries
                _may_try(tries, last_try=last_try)
                verdict = self._card.verify(self._finger.reference, template)
                self._tries = tries if verdict.refused_data else verdict.tries
            except LoginRefused:
                self._end()
                raise
            except BaseException:
                self._give_up()  # whatever the card made of it
                raise
        if not verdict.verified:
            self._end()
            raise _why_refused(verdict, tries)

    def _read_containers(self) -> CardIdentity:
        """Read the containers of the card that is open now; if that fails, it is shut again."""
        try:
            with _translated("read"):
                found = tuple(_container(slot, certificate) for slot, certificate in self._card.certificates())
        except BaseException:
            self._give_up()
            raise
        return CardIdentity(self._serial or "", self._variant.name, found)

    def _look(self) -> EnrolledFinger:
        """Take note of the card's serial and its counter; return the finger it compares with."""
        with self._transaction("open"):
            if not self._card.allows_comparison():
                raise Refusal(Reason.CARD_UNKNOWN, "the card does no on-card comparison")
            fingers = self._card.fingers()
            self._serial = self._card.serial()
            if fingers:
                self._tries, self._looked = self._card.counter(fingers[0].reference).tries, True
        if not fingers:
            raise Refusal(Reason.CARD_NO_FINGER, "the card's BIT group is empty")
        return fingers[0]

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[None]:
        with _translated(doing):
            self._begin()
            try:
                yield
            finally:
                self._end()

    def _begin(self) -> None:
        """Open a transaction with the card that was inserted, application selected."""
        self._same_card()
        self._line.begin()
        try:
            self._card.select()
            self._same_serial()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        with suppress(PcscError):  # of a card that is gone: its next use says so
            self._line.end()

    def _same_card(self) -> None:
        left_in(self._reader, self._inserted)

    def _same_serial(self) -> None:
        if self._serial is not None and self._card.serial() != self._serial:
            raise Refusal(Reason.CARD_FAILED, "another card is in the reader")

    def _give_up(self) -> None:
        """Something failed while the card may be open: reset it. The worker ends after that."""
        with suppress(PcscError):
            self._line.close()


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn what a card, its reader and PC/SC do wrong into a refusal that tells the user to insert it again."""
    try:
        yield
    except (PivError, PcscError) as error:
        raise Refusal(Reason.CARD_FAILED, f"{doing}: {type(error).__name__} {error}".rstrip()) from error


def _may_try(tries: int | None, *, last_try: bool) -> None:
    """LoginRefused if the card is blocked, or if one mistake would block it and the user has not said yes to that."""
    if tries == 0:
        raise LoginRefused(Reason.CARD_BLOCKED, 0)
    if tries == 1 and not last_try:
        raise LoginRefused(Reason.CARD_LAST_TRY, tries, final_try=True)


def _why_refused(verdict: Verdict, before: int | None) -> LoginRefused:
    if verdict.refused_data:
        return LoginRefused(Reason.CARD_UNCLEAR, before, "the card did not take the template")
    reason = Reason.CARD_FINGER if verdict.tries else Reason.CARD_BLOCKED
    return LoginRefused(reason, verdict.tries)


def _container(slot: int, certificate: bytes) -> Container:
    return Container(bytes([slot]), f"PIV {slot:02X}", certificate, project_of(certificate))
