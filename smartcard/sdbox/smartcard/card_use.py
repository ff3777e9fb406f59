"""What every use of a card begins and ends with, whatever talks to it. Runs in the card worker only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.certificates import PublicKey, Scheme, choose_scheme, is_signed_by, public_key_of
from sdbox.smartcard.pcsc import CardSeen, card_in


def left_in(reader: str, inserted: CardSeen | None) -> None:
    """Refusal if the card in `reader` is not the one of before, left in all along; PcscError.

    OpenSC may answer for a card that is gone, and tells a serial that it has read at the beginning: so PC/SC's count of
    insertions is compared. A signature is then checked by the certificate that was read.
    """
    if card_in(reader) != inserted:
        raise Refusal(Reason.CARD_FAILED, "the card was taken out")


def sign_as(
    card: CardIdentity | None,
    key_id: bytes,
    content: bytes,
    schemes: Sequence[int],
    sign: Callable[[PublicKey, Scheme], bytes],
) -> tuple[Scheme, bytes]:
    """Let `sign` sign `content` with the first of `schemes` that fits the key of `card`'s container.

    Refusal(CARD_PROOF) if none does; Refusal(CARD_FAILED) if the signature is not by the key of the certificate.
    """
    containers = card.containers if card else ()
    key = next((public_key_of(one.certificate) for one in containers if one.key_id == key_id), None)
    scheme = None if key is None else choose_scheme(key, schemes)
    if key is None or scheme is None:
        raise Refusal(Reason.CARD_PROOF, "no such key, or no signature scheme that fits it")
    signature = sign(key, scheme)
    if not is_signed_by(key, scheme, content, signature):
        raise Refusal(Reason.CARD_FAILED, "the signature is not by the key of the certificate")
    return scheme, signature
