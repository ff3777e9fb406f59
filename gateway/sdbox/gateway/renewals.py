"""Renewing a card's certificate while its holder works: request, issue, confirm.

    RenewalRequest (signed by the old container, PKCS#10 by the new key) -> RenewalPending ... RenewalIssued
    RenewalWritten (signed by the new container) -> RenewalClosed; from here on the old certificate opens nothing

The CA is asked beside the conversation, so heartbeats and switches never wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.exc import SQLAlchemyError

from sdbox.gateway.cards import CardPolicy, Container, read_container
from sdbox.gateway.config import Config
from sdbox.gateway.est import EstAuthority
from sdbox.gateway.issuing import Issuer, OwnAuthority, check_issued, key_fingerprint, read_request
from sdbox.gateway.record import Record
from sdbox.gateway.renewalbook import Issued, RenewalBook
from sdbox.gateway.store import RevocationKind, Store
from sdbox.protocol import messages as m
from sdbox.protocol.reasons import Reason, Refusal

ISSUING_THREADS: Final = 4
MOST_REQUESTS: Final = 64  # of one connection: as many as a card may have containers


@dataclass(frozen=True, slots=True)
class Order:
    """A request that the policy allows."""

    old: Container
    request: x509.CertificateSigningRequest

    @property
    def project(self) -> str:
        return self.old.project or ""


@dataclass(slots=True)
class Renewals:
    """The centre's side of all renewals. Its calls block: run them in a thread."""

    book: RenewalBook
    policy: CardPolicy
    store: Store
    issuer: Issuer | None = None
    keys: Collection[str] = ()
    # Of its own: a CA that hangs must not take the threads that appraise boxes and write the record.
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(ISSUING_THREADS, "issuing"))

    def order(self, old: Container, request: bytes) -> Order:
        """Check a request by the holder of `old`. Refusal if it is not allowed or nobody could sign it."""
        if self.issuer is None:
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, "no issuing CA")
        order = Order(old, read_request(old.certificate, request, self.keys))
        known = self.book.successor(old.der)
        if known is not None and known.is_spent and known.public_key != key_fingerprint(order.request):
            raise Refusal(Reason.RENEWAL_REFUSED, "asked for too often")
        return order

    def issue(self, order: Order) -> bytes:
        """Return the certificate (DER) for `order`: the same one if it was issued before for the same key."""
        known = self.book.successor(order.old.der)
        if known is not None and known.public_key == key_fingerprint(order.request):
            return known.certificate
        if self.issuer is None:
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, "no issuing CA")
        made = self.issuer.issue(order.old.certificate, order.request)
        new = check_issued(order.old.certificate, order.request, made).public_bytes(Encoding.DER)
        fault = self.policy.certificate_fault(read_container(new))
        if fault is not None:
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, f"the CA's certificate would be refused: {fault}")
        try:
            serials = order.old.serial, read_container(new).serial
            replaced = self.book.note_issued(Issued(order.old.der, serials[0], new, serials[1], key_fingerprint(made)))
        except ValueError as error:
            raise Refusal(Reason.CERTIFICATE_SUPERSEDED) from error
        if replaced is not None:  # the card lost that key before it had signed anything
            self.store.revoke(RevocationKind.CERTIFICATE, replaced)
        fault = self.policy.certificate_fault(order.old)
        if fault is not None:  # revoked while the CA was signing
            self.store.revoke(RevocationKind.CERTIFICATE, serials[1])
            raise Refusal(fault)
        return new

    def confirm(self, new: Container) -> str:
        """Void what `new` renewed, as `new` has just signed. Returns the old one's SHA-256. Refusal if unknown."""
        fault = self.policy.certificate_fault(new)
        if fault is not None:
            raise Refusal(fault)
        old = self.book.confirm(new.der)
        if old is None:
            raise Refusal(Reason.RENEWAL_REFUSED, "this certificate renews no other")
        return old


def open_renewals(config: Config, store: Store, policy: CardPolicy, book: RenewalBook) -> Renewals:
    """Open the CA that the configuration names. OSError or ValueError if it cannot be used."""
    issuing = config.issuing
    if issuing is None:
        return Renewals(book, policy, store)
    if issuing.est is not None:
        return Renewals(book, policy, store, EstAuthority(issuing.est), issuing.keys)
    if issuing.own is None:
        raise ValueError("issuing names no CA")
    own = OwnAuthority(issuing.own.certificate, issuing.own.key, issuing.own.life_days)
    if own.public_key == key_fingerprint(x509.load_pem_x509_certificate(config.certificate.read_bytes())):
        raise ValueError("the issuing key must not be the gateway's TLS key")
    return Renewals(book, policy, store, own, issuing.keys)


class RenewalDesk:
    """One connection's renewals. `send` takes what is ready, in the conversation's own turn."""

    def __init__(self, renewals: Renewals, record: Record, send: Callable[[m.ToBox], Awaitable[None]]) -> None:
        self._renewals = renewals
        self._record = record
        self._send = send
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._requests = 0

    async def begin(self, old: Container, request: bytes) -> None:
        """Check a request and have it issued beside the conversation. Refusal if it is not allowed."""
        self._requests += 1
        if self._requests > MOST_REQUESTS or (old.project or "") in self._tasks:
            raise Refusal(Reason.RENEWAL_REFUSED, "too many requests")
        order = await asyncio.to_thread(self._renewals.order, old, request)
        task = asyncio.get_running_loop().create_task(self._issue(order))
        self._tasks[order.project] = task
        task.add_done_callback(lambda _: self._tasks.pop(order.project, None))

    async def confirm(self, new: Container) -> str:
        """The new certificate has signed: void the old one, and return its SHA-256."""
        old = await asyncio.to_thread(self._renewals.confirm, new)
        await self._record.note("renewal-confirmed", project=new.project or "", certificate=new.serial, old=old)
        return old

    async def close(self) -> None:
        """Stop waiting. A certificate that is being issued is still written down: its thread goes on."""
        for task in (pending := tuple(self._tasks.values())):
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _issue(self, order: Order) -> None:
        certificate, code = b"", None
        try:
            work = partial(self._renewals.issue, order)
            certificate = await asyncio.get_running_loop().run_in_executor(self._renewals.threads, work)
            new = read_container(certificate)
            await self._note("renewal-issued", order, new=new.serial)
        except Refusal as refusal:
            code = refusal.reason.value
            await self._note("renewal-refused", order, reason=code, detail=refusal.detail)
        except (SQLAlchemyError, OSError, ValueError) as error:
            code = Reason.INTERNAL.value
            await self._note("renewal-refused", order, reason=code, detail=type(error).__name__)
        await self._send(m.RenewalIssued(order.project, certificate, code))

    async def _note(self, event: str, order: Order, **fields: str) -> None:
        await self._record.note(event, project=order.project, certificate=order.old.serial, **fields)
