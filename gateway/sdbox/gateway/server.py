"""Accepts connections, within limits, and keeps the clock for all conversations."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from sdbox.gateway.boxes import BoxServices
from sdbox.gateway.cards import CardPolicy
from sdbox.gateway.config import Config
from sdbox.gateway.conversation import Conversation, Services
from sdbox.gateway.ear import EarIssuer
from sdbox.gateway.limits import RateLimit, network_of
from sdbox.gateway.passes import Passes
from sdbox.gateway.record import Record
from sdbox.gateway.renewalbook import RenewalBook
from sdbox.gateway.renewals import open_renewals
from sdbox.gateway.sessions import open_bubbles
from sdbox.gateway.store import RevocationKind, Store
from sdbox.gateway.verifier import Verifier
from sdbox.protocol.reasons import Reason
from sdbox.protocol.tls import StreamClosedError, TlsStream, parse_endpoint, server_context

TICK_SECONDS: Final = 0.25
REVOCATION_SECONDS: Final = 1.0
LEAVING_SECONDS: Final = 0.5


async def services_for(config: Config, store: Store) -> Services:
    """Open what the configuration names. ValueError, OSError or WireGuardError if something is not usable."""
    by_project = {bubble.project: bubble for bubble in config.bubble}
    limits = config.limits
    boxes = BoxServices(
        store,
        Passes(store),
        Verifier(config.references, config.policy, config.firmware),
        EarIssuer(config.ear_key, config.result_seconds),
        *(RateLimit(limits.box_burst, limits.box_per_minute) for _ in range(2)),
    )
    book = RenewalBook(store.engine)
    is_revoked = partial(store.is_revoked, RevocationKind.CERTIFICATE)
    cards = CardPolicy(config.card_ca, by_project, is_revoked, book.successor)
    renewals = open_renewals(config, store, cards, book)
    bubbles = await open_bubbles(config.bubble)
    return Services(store, Record(store), boxes, cards, bubbles, renewals, config.lease_seconds)


class Server:
    """The listening socket and the conversations on it."""

    def __init__(self, config: Config, services: Services) -> None:
        """Read certificate and key. ValueError if they cannot be used."""
        self._config = config
        self._services = services
        self._tls = server_context(config.certificate, config.key)
        self._addresses = RateLimit(config.limits.address_burst, config.limits.address_per_minute)
        self._conversations: set[Conversation] = set()
        self._revocations = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, stop: asyncio.Event) -> None:
        """Listen and say so on standard output; ends all sessions and returns when `stop` is set."""
        host, port = parse_endpoint(self._config.listen)
        server = await asyncio.start_server(self._accept, host, port)
        address = server.sockets[0].getsockname()
        print(f"listening {address[0]}:{address[1]}", flush=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                works = self._keep_time(), self._watch_revocations(), self._finish_leaving()
                chores = [tasks.create_task(work) for work in works]
                await stop.wait()
                for chore in chores:
                    chore.cancel()
        finally:
            server.close()
            for task in (pending := tuple(self._tasks)):
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        # A scan or a flood costs an accept and nothing else: no handshake, no line in the record.
        crowded = len(self._tasks) - self._proven() >= self._config.limits.unproven_connections
        if peer is None or crowded or not self._addresses.take(network_of(peer[0])):
            writer.transport.abort()
        else:
            task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    def _proven(self) -> int:
        return sum(conversation.is_proven for conversation in self._conversations)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            stream = await TlsStream.accept(self._tls, reader, writer)
        except StreamClosedError:
            return
        conversation = Conversation(stream, self._services)
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)

    def _finished(self, task: asyncio.Task[None]) -> None:
        """Put an exception nobody expected in the record; its connection and session have ended already (S11)."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        self._note("refused", reason=Reason.INTERNAL, detail=type(error).__name__)

    def _note(self, event: str, **fields: str) -> None:
        task = asyncio.get_running_loop().create_task(self._services.record.note(event, **fields))
        self._tasks.add(task)
        task.add_done_callback(self._noted)

    def _noted(self, task: asyncio.Task[None]) -> None:
        """If not even that could be written down, it was said on standard error."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def _keep_time(self) -> None:
        """The clock waits for nobody: neither for a conversation nor for the database."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for conversation in self._conversations:
                conversation.tick(self._revocations)

    async def _watch_revocations(self) -> None:
        """A database that does not answer is asked again; a conversation that needs it meanwhile ends by itself."""
        while True:
            await asyncio.sleep(REVOCATION_SECONDS)
            try:
                self._revocations = await asyncio.to_thread(self._services.store.revocations)
            except SQLAlchemyError as error:
                self._report(error)

    async def _finish_leaving(self) -> None:
        """Try again what could not be removed when its session ended."""
        while True:
            await asyncio.sleep(LEAVING_SECONDS)
            for bubble in self._services.bubbles.values():
                for session in await bubble.finish_leaving():
                    self._note("cleared", session=session.name, project=session.project)


async def run_gateway(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    store = Store(config.database)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await Server(config, await services_for(config, store)).serve(stop)
    finally:
        store.close()
