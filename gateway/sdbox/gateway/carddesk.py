"""One connection's card: which containers were shown, and whether a signature is for this channel, bubble and key."""

from __future__ import annotations

import secrets

from sdbox.gateway.authenticator import ConnectionKeys, verify_authenticator
from sdbox.gateway.cards import MOST_CERTIFICATES, CardPolicy, Container, read_container
from sdbox.protocol import messages as m
from sdbox.protocol.authenticator_request import certificate_request
from sdbox.protocol.contexts import NONCE_SIZE, offers_context, open_context
from sdbox.protocol.reasons import Reason, Refusal


class CardDesk:
    """Holds the card of a connection and the nonce the next signature must be for. Calls block: run in a thread."""

    def __init__(self, policy: CardPolicy, keys: ConnectionKeys) -> None:
        """Start without a card and without a nonce."""
        self._policy = policy
        self._keys = keys
        self._nonce = b""
        self._shown: tuple[Container, ...] = ()
        self._offers: dict[str, m.OfferItem] = {}

    def nonce(self) -> bytes:
        """Return the outstanding nonce, a new one if it was used: a renewal must not spoil a signature."""
        self._nonce = self._nonce or secrets.token_bytes(NONCE_SIZE)
        return self._nonce

    def prove(self, message: m.CardProof) -> tuple[m.OfferItem, ...]:
        """Take a card: one of the certificates signed. What an earlier card showed is forgotten first."""
        self._shown, self._offers = (), {}
        leaf = self._signer(offers_context(self._use_nonce()), message.authenticator)
        if leaf not in message.certificates or len(message.certificates) > MOST_CERTIFICATES:
            raise Refusal(Reason.CARD_PROOF, "the signer is not among the certificates, or they are too many")
        shown = tuple(read_container(der) for der in message.certificates)
        offers = self._policy.offers(shown)
        self._shown, self._offers = shown, {offer.project: offer for offer in offers}
        return offers

    def admit(self, message: m.Open) -> Container:
        """Return the container that may enter the bubble asked for, or raise the Refusal that says why not (S4)."""
        nonce = self._use_nonce()
        try:
            context = open_context(nonce, message.project, message.tunnel_public)
        except ValueError as error:
            raise Refusal(Reason.PROTOCOL, "Open with a name or key of a wrong size") from error
        leaf = self._signer(context, message.authenticator)
        container = next((shown for shown in self._shown if shown.der == leaf), None)
        if container is None or container.project != message.project:
            raise Refusal(Reason.PROJECT_NOT_ON_CARD)
        fault = self._policy.fault(container) or self._offers[message.project].reason
        if fault is not None:
            raise Refusal(Reason(fault))
        return container

    def _signer(self, context: bytes, authenticator: bytes) -> bytes:
        return verify_authenticator(self._keys, certificate_request(context), authenticator)[0]

    def _use_nonce(self) -> bytes:
        """Take the nonce away, whatever comes of it: each is good for one signature. Without one, a random miss."""
        nonce, self._nonce = self._nonce, b""
        return nonce or secrets.token_bytes(NONCE_SIZE)
