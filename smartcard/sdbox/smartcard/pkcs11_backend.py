"""Cards through a PKCS#11 module, by python-pkcs11 (`cryptoki.py`). Runs in the card worker only.

Rules that the module's behaviour forces on us:
- one thread: python-pkcs11 initialises without locking;
- a login is tried once per user action (S7); OpenSC answers CKR_PIN_INCORRECT to a wrong finger, to nobody touching
  the sensor and to a blocked card alike, so the card's counter before and after tells what happened;
- after C_Logout a SmartCard-HSM stays open (OpenSC 0.24 and later): every session begins and ends with a card reset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity, Container
from sdbox.smartcard.apdu import OK, tries_in
from sdbox.smartcard.card_use import left_in, sign_as
from sdbox.smartcard.certificates import PublicKey, Scheme, digest_of, project_of
from sdbox.smartcard.cryptoki import (
    PROTECTED_AUTH,
    Attribute,
    GeneralError,
    Mechanism,
    ObjectClass,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    Session,
    Slot,
    Token,
    TokenFlag,
    load_module,
)
from sdbox.smartcard.filecache import file_cache
from sdbox.smartcard.keystore import KeyStore, label_of, sign_digest, value_of
from sdbox.smartcard.pcsc import PcscError, ask_card, open_inserted, reset_card
from sdbox.smartcard.renewal import Renewing
from sdbox.smartcard.values import LoginMethod, LoginRefused, LoginStatus
from sdbox.smartcard.variants import Variant, module_path

DESCRIPTION_BYTES: Final = 64  # CK_SLOT_INFO.slotDescription holds no more of a reader's name


class _Pin:
    """A PIN as python-pkcs11 wants it (something to encode), without a copy that could not be wiped."""

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer

    def encode(self, _encoding: str) -> bytearray:
        return self._buffer


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the errors of PKCS#11 and PC/SC into refusals that tell the user to insert the card again."""
    try:
        yield
    except (PKCS11Error, PcscError) as error:
        raise Refusal(Reason.CARD_FAILED, f"{doing}: {type(error).__name__} {error}".rstrip()) from error


def slot_descriptions(reader: str) -> tuple[str, str]:
    """Return how modules show a PC/SC reader as a slot, in 64 bytes: OpenSC ends a longer name with dots, ykcs11 cuts.

    USB readers' names are often longer. Two that begin alike are told apart no more: `_find_slot` then refuses.
    """
    name = reader.encode()
    dotted = name if len(name) <= DESCRIPTION_BYTES else name[: DESCRIPTION_BYTES - 3] + b"..."
    return _shown(dotted), _shown(name[:DESCRIPTION_BYTES])


def _shown(name: bytes) -> str:
    return name.decode(errors="replace").rstrip()


class Pkcs11Session:
    """One card from reset to reset. Every method raises Refusal."""

    def __init__(self, variant: Variant, reader: str) -> None:
        self._variant = variant
        self._reader = reader
        self._session: Session | None = None
        self._identity: CardIdentity | None = None
        self._keys: dict[bytes, Any] = {}
        self._store: KeyStore | None = None
        with _translated("open"):
            self._inserted = open_inserted(reader) if reader else None  # nobody's earlier login is ours
            with file_cache():
                self._library = load_module(module_path(variant))
                self._slot, self._token = self._find_slot()
            self._serial: bytes = self._token.serial

    def status(self) -> LoginStatus:
        """Return the retry counter (unknown once logged in: the module holds the card then); costs no try."""
        with _translated("status"):
            self._same_card()
            tries = self._tries()
            # The flags cost a module up to six commands: asked where the counter is not all there is to know.
            asked = tries is None or self._variant.login.empty_pin
            flags = self._slot.get_token().flags if asked else TokenFlag(0)
        blocked = tries == 0 or bool(flags & TokenFlag.USER_PIN_LOCKED)
        final_try = tries == 1 or bool(flags & TokenFlag.USER_PIN_FINAL_TRY)
        return LoginStatus(self._variant.login.method, 0 if blocked else tries, final_try and not blocked, blocked)

    def login(self, pin: bytearray | None, *, last_try: bool = False) -> CardIdentity:
        """Verify the holder, once, and read the containers. Never called again by itself.

        The last try is spent only if `last_try`: whoever asks has the user's word for it.
        """
        method = self._variant.login.method
        if self._session is not None or (pin is None) != (method is LoginMethod.FINGER):
            raise Refusal(Reason.INTERNAL, "a login that the card's state or variant does not allow")
        before = self.status()
        if before.blocked:
            raise LoginRefused(Reason.CARD_BLOCKED, 0)
        if before.final_try and not last_try:
            raise LoginRefused(Reason.CARD_LAST_TRY, before.tries, final_try=True)
        with _translated("login"):
            try:
                self._session = self._token.open(user_pin=self._credential(pin))
            except (PinIncorrect, PinInvalid, PinLenRange, PinLocked) as error:
                raise self._why_refused(before) from error
            except GeneralError as error:
                if not self._variant.login.proves_itself:
                    raise
                raise self._why_not_asked(before) from error
            if self._variant.login.empty_pin and not self._is_open():
                self._session = None
                raise self._why_refused(before)
            self._identity = self._read_containers(self._session)
        return self._identity

    def sign(self, key_id: bytes, content: bytes, schemes: Sequence[int]) -> tuple[Scheme, bytes]:
        """Sign with the best of `schemes` that key and module can do; the signature is checked before it leaves."""
        with _translated("mechanisms"):
            possible = _possible_schemes(self._slot, schemes)

        def sign(_key: PublicKey, scheme: Scheme) -> bytes:
            with _translated("sign"):
                self._same_card()
                return sign_digest(self._keys[key_id], scheme, digest_of(scheme, content))

        return sign_as(self._identity, key_id, content, possible, sign)

    def container(self, certificate: bytes) -> Container:
        """Return the container with exactly this certificate (DER); Refusal if the card has none."""
        for container in self._identity.containers if self._identity else ():
            if container.certificate == certificate:
                return container
        raise Refusal(Reason.RENEWAL_FAILED, "no such container")

    def renewal(self, certificate: bytes) -> Renewing:
        """Return the container with this certificate, to be renewed on the card."""
        old = self.container(certificate)
        with _translated("renew"):
            self._same_card()
        if self._store is None:
            self._store = KeyStore(self._token)
        return Renewing(self._variant, self._store, old)

    def read_again(self) -> CardIdentity:
        """Return the containers as they are after writing."""
        if self._session is None:
            raise Refusal(Reason.INTERNAL, "not logged in")
        with _translated("read"):
            self._identity = self._read_containers(self._session)
        return self._identity

    def close(self) -> None:
        """End the session and reset the card."""
        with _translated("close"):
            # OpenSC holds a PC/SC transaction since login (lock_login) and disconnects with a reset
            # (disconnect_action). Sessions are not closed one by one: C_Logout would end the transaction before.
            try:
                self._library.finalize()
            finally:
                if self._reader:
                    reset_card(self._reader)  # whatever the module did

    def _find_slot(self) -> tuple[Slot, Token]:
        """Return the slot of our reader, by its name and never by position; of SoftHSM's token, by its label.

        A module may ask the card each time that it is asked for a token: each is taken once.
        """
        wanted = self._variant.module.token if self._variant.module else None
        names = slot_descriptions(self._reader)
        slots = self._library.get_slots(token_present=True)
        ours = [(slot, slot.get_token()) for slot in slots if wanted or slot.slot_description in names]
        ours = [(slot, token) for slot, token in ours if wanted in (None, token.label)]
        usable = [(slot, token) for slot, token in ours if token.flags & TokenFlag.LOGIN_REQUIRED]
        if not usable or len({token.serial for _, token in usable}) != 1:
            raise Refusal(Reason.CARD_FAILED, f"{len(usable)} usable slots of {len(ours)} for the reader")
        return usable[0]

    def _same_card(self) -> None:
        if self._reader:
            left_in(self._reader, self._inserted)

    def _tries(self) -> int | None:
        """Ask the card for its retry counter (VERIFY without data, ISO 7816-4, 11.6.6); None if it does not say."""
        command = self._variant.login.counter
        if command is None or self._session is not None:
            return None
        return tries_in(int.from_bytes(ask_card(self._reader, bytes.fromhex(command)), "big"))

    def _credential(self, pin: bytearray | None) -> object:
        if pin is not None:
            return _Pin(pin)
        return _Pin(bytearray()) if self._variant.login.empty_pin else PROTECTED_AUTH

    def _is_open(self) -> bool:
        """Ask the card whether its holder is verified: ykcs11 2.7.1 answers CKR_OK whatever the finger was."""
        status = int.from_bytes(ask_card(self._reader, bytes.fromhex(self._variant.login.counter or "")), "big")
        if status != OK and tries_in(status) is None:
            raise Refusal(Reason.CARD_FAILED, "the card does not say whether its holder was verified")
        return status == OK

    def _start_over(self) -> None:
        """Release the card after a failed login: OpenSC keeps its transaction (lock_login), so nobody could ask it."""
        with file_cache():
            self._library.reinitialize()
            self._slot, self._token = self._find_slot()
        if self._token.serial != self._serial:
            raise Refusal(Reason.CARD_FAILED, "another card is in the reader")

    def _why_refused(self, before: LoginStatus) -> LoginRefused:
        self._start_over()
        after = self.status()
        if after.blocked:
            return LoginRefused(Reason.CARD_BLOCKED, 0)
        if before.method is LoginMethod.PIN:
            return LoginRefused(Reason.CARD_PIN, after.tries, final_try=after.final_try)
        reason = Reason.CARD_TIMEOUT if after == before else Reason.CARD_FINGER
        return LoginRefused(reason, after.tries, final_try=after.final_try)

    def _why_not_asked(self, before: LoginStatus) -> Refusal:
        """A card that is still there, answers and was asked for nothing could not prove itself to the module."""
        self._start_over()
        if self.status() == before:
            return Refusal(Reason.CARD_UNTRUSTED, "the module did not believe the card")
        return Refusal(Reason.CARD_FAILED, "login: GeneralError")

    def _read_containers(self, session: Session) -> CardIdentity:
        """Match certificates and keys by CKA_ID. A key that only decrypts or derives (OpenPGP) is no container."""
        keys = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.SIGN: True}))
        self._keys = {bytes(key[Attribute.ID]): key for key in keys}
        certificates = list(session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE}))
        known = [item for item in certificates if bytes(item[Attribute.ID]) in self._keys]
        containers = tuple(container for item in known if (container := _container(item)) is not None)
        return CardIdentity(self._serial.decode("ascii", "replace").strip(), self._variant.name, containers)


def _container(certificate: Any) -> Container | None:  # noqa: ANN401 - attribute access of python-pkcs11 is untyped
    """Return None for a certificate that was torn when it was written: it must not cost the others anything."""
    value = value_of(certificate)
    if not value:
        return None
    return Container(bytes(certificate[Attribute.ID]), label_of(certificate), value, project_of(value))


def _possible_schemes(slot: Slot, schemes: Sequence[int]) -> list[int]:
    """Leave RSA-PSS out where the module cannot do it: OpenSC's openpgp and gids drivers only pad as PKCS#1 v1.5."""
    pss = Mechanism.RSA_PKCS_PSS in slot.get_mechanisms()
    return [scheme for scheme in schemes if pss or scheme != Scheme.RSA_PSS_RSAE_SHA256]
