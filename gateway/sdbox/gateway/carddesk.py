"""One connection's card: which containers were shown, and whether a signature is for this channel, bubble and key."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from sdbox.gateway.authenticator import ConnectionKeys, verify_authenticator
from sdbox.gateway.cards import MOST_CERTIFICATES, CardPolicy, Container, read_container, readable
from sdbox.gateway.freshness import Freshness
from sdbox.gateway.renewalbook import fingerprint
from sdbox.protocol import messages as m
from sdbox.protocol.authenticator_request import certificate_request
from sdbox.protocol.contexts import NONCE_SIZE, offers_context, open_context, renewal_context, written_context
from sdbox.protocol.reasons import Reason, Refusal

NAME_LIMIT: Final = 255


class CardDesk:
    """Holds the card of a connection and the nonce the next signature must be for. Calls block: run in a thread."""

    def __init__(self, policy: CardPolicy, keys: ConnectionKeys) -> None:
        """Start without a card and without a nonce."""
        self._freshness = Freshness()
        self._policy = policy
        self._keys = keys
        self._nonce = b""
        self._shown: dict[bytes, tuple[Container, m.OfferItem]] = {}

    def nonce(self) -> bytes:
        """Return the outstanding nonce, a new one if it was used: a renewal must not spoil a signature."""
        self._nonce = self._nonce or secrets.token_bytes(NONCE_SIZE)
        return self._nonce

    def prove(self, message: m.CardProof) -> tuple[m.OfferItem, ...]:
        """Take a card: one of the certificates signed. What an earlier card showed is forgotten first."""
        self._shown = {}
        leaf = self._signer(offers_context(self._use_nonce()), message.authenticator)
        if leaf not in message.certificates or len(message.certificates) > MOST_CERTIFICATES:
            raise Refusal(Reason.CARD_PROOF, "the signer is not among the certificates, or they are too many")
        offers = self._show(readable(message.certificates))
        self._freshness.given()
        return offers

    def admit(self, message: m.Open) -> Container:
        """Return the container that may enter the bubble asked for, or raise the Refusal that says why not (S4)."""
        nonce = self._use_nonce()
        try:
            context = open_context(nonce, message.project, message.tunnel_public)
        except ValueError as error:
            raise Refusal(Reason.PROTOCOL, "Open with a name or key of a wrong size") from error
        container = self._shown_by(self._signer(context, message.authenticator), message.project)
        recent = self._freshness.spend()
        if self._policy.wants_fresh(message.project) and not recent:
            raise Refusal(Reason.CARD_FRESH)
        return container

    def renewing(self, message: m.RenewalRequest) -> Container:
        """Return the container that asks to be renewed, or raise the Refusal that says why it may not."""
        context = renewal_context(self._use_nonce(), _name(message.project), message.request)
        container, _ = self._of_card(self._signer(context, message.authenticator), message.project)
        fault = self._policy.certificate_fault(container)  # a bubble that is closed for a month is no reason
        if fault is not None:
            raise Refusal(fault)
        return container

    def written(self, message: m.RenewalWritten) -> Container:
        """Return the container that signed that it is on the card; whether it renews anything is not known here."""
        context = written_context(self._use_nonce(), _name(message.project))
        container = read_container(self._signer(context, message.authenticator))
        if container.project != message.project:
            raise Refusal(Reason.PROJECT_NOT_ON_CARD)
        return container

    def renewed(self, old: str, new: Container) -> None:
        """Take `new` for the container whose certificate's SHA-256 is `old`: the next Open is signed by it."""
        before = [shown for shown, _ in self._shown.values()]
        self._show([*(one for one in before if fingerprint(one.der) != old and one.der != new.der), new])

    def _show(self, containers: Sequence[Container]) -> tuple[m.OfferItem, ...]:
        named = [container for container in containers if container.project]
        offers = self._policy.offers(named)
        self._shown = {container.der: (container, offer) for container, offer in zip(named, offers, strict=True)}
        return offers

    def _of_card(self, leaf: bytes, project: str) -> tuple[Container, m.OfferItem]:
        container, offer = self._shown.get(leaf, (None, None))
        if container is None or offer is None or container.project != project:
            raise Refusal(Reason.PROJECT_NOT_ON_CARD)
        return container, offer

    def _shown_by(self, leaf: bytes, project: str) -> Container:
        container, offer = self._of_card(leaf, project)
        fault = self._policy.fault(container) or offer.reason
        if fault is not None:
            raise Refusal(Reason(fault))
        return container

    def _signer(self, context: bytes, authenticator: bytes) -> bytes:
        return verify_authenticator(self._keys, certificate_request(context), authenticator)[0]

    def _use_nonce(self) -> bytes:
        """Take the nonce away, whatever comes of it: each is good for one signature. Without one, a random miss."""
        nonce, self._nonce = self._nonce, b""
        return nonce or secrets.token_bytes(NONCE_SIZE)


def _name(project: str) -> str:
    if len(project.encode()) > NAME_LIMIT:
        raise Refusal(Reason.PROTOCOL, "a project name that is too long")
    return project
