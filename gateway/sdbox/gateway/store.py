"""What outlives the process: the inventory of boxes, the revocations, and the record (append-only, hash-chained)."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Engine, String, Text, UniqueConstraint, create_engine, func, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sdbox.protocol.values import BoxId

_ATTEMPTS = 20


class StoreError(Exception):
    """The database cannot be used, or the record in it was changed afterwards."""


class RevocationKind(StrEnum):
    """What can be revoked in this version."""

    BOX = "box"
    CERTIFICATE = "certificate"
    SESSION = "session"


class Base(DeclarativeBase):
    """The tables of the gateway's database."""


class _Box(Base):
    __tablename__ = "boxes"
    uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    ek_public: Mapped[str] = mapped_column(Text)
    enrolled: Mapped[str] = mapped_column(String(32))


class _Revocation(Base):
    __tablename__ = "revocations"
    __table_args__ = (UniqueConstraint("kind", "value"),)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    value: Mapped[str] = mapped_column(String(128))


class _Line(Base):
    __tablename__ = "record"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the record: `digest` is SHA-256 over the previous digest and the JSON `body`."""

    number: int
    body: str
    digest: str


def chained(previous: str, body: str) -> str:
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


class Store:
    """One database. Every call is one short transaction; any thread may call."""

    def __init__(self, url: str) -> None:
        """Open the database and make its tables if they are missing. StoreError if that fails."""
        try:
            self._engine = create_engine(url)
            Base.metadata.create_all(self._engine)
        except (SQLAlchemyError, ImportError) as error:
            raise StoreError(f"database unusable: {type(error).__name__}") from error

    @property
    def engine(self) -> Engine:
        """The database, for a table that has a file of its own."""
        return self._engine

    def close(self) -> None:
        self._engine.dispose()

    def enrol(self, box: BoxId, ek_public: str) -> None:
        """Put a box on the inventory. StoreError if it, or this EK, is there with another: forget that first (2, 6)."""
        with Session(self._engine) as session, session.begin():
            known = session.get(_Box, str(box))
            if known is not None and known.ek_public != ek_public:
                raise StoreError(f"box {box} is enrolled with another EK")
            if twin := session.scalar(select(_Box).filter(_Box.ek_public == ek_public, _Box.uuid != str(box))):
                raise StoreError(f"this TPM is enrolled as box {twin.uuid}: forget that one first")
            if known is None:
                session.add(_Box(uuid=str(box), ek_public=ek_public, enrolled=_now()))

    def forget(self, box: BoxId) -> bool:
        """Take a box off the inventory; False if it was not on it."""
        with Session(self._engine) as session, session.begin():
            known = session.get(_Box, str(box))
            if known is not None:
                session.delete(known)
            return known is not None

    def ek_public(self, box: BoxId) -> str | None:
        """Return the enrolled EK (PEM), None for a box that is not on the inventory."""
        with Session(self._engine) as session:
            known = session.get(_Box, str(box))
            return known.ek_public if known else None

    def revoke(self, kind: RevocationKind, value: str) -> None:
        """Revoke for good; doing it twice changes nothing."""
        with Session(self._engine) as session, session.begin():
            if not session.scalar(select(_Revocation).filter_by(kind=kind.value, value=value)):
                session.add(_Revocation(kind=kind.value, value=value))

    def is_revoked(self, kind: RevocationKind, value: str) -> bool:
        with Session(self._engine) as session:
            return session.scalar(select(_Revocation).filter_by(kind=kind.value, value=value)) is not None

    def revocations(self) -> int:
        """Return how many there are: a cheap question that tells whether to look again."""
        with Session(self._engine) as session:
            return session.scalar(select(func.count()).select_from(_Revocation)) or 0

    def append(self, entry: dict[str, str]) -> None:
        """Add an entry to the record. Writers in several processes race for the next number; the loser tries again."""
        body = json.dumps({"time": _now(), **entry}, sort_keys=True)
        for _ in range(_ATTEMPTS):
            try:
                with Session(self._engine) as session, session.begin():
                    last = session.scalar(select(_Line).order_by(_Line.number.desc()).limit(1))
                    number, previous = (last.number + 1, last.digest) if last else (1, "")
                    session.add(_Line(number=number, body=body, digest=chained(previous, body)))
                return
            except IntegrityError:
                continue
        raise StoreError("the record could not be extended")

    def record(self) -> Iterator[Line]:
        """Yield the record, oldest first. StoreError at the first line that does not continue the chain."""
        previous = ""
        with Session(self._engine) as session:
            for position, line in enumerate(session.scalars(select(_Line).order_by(_Line.number)), 1):
                if line.number != position or line.digest != chained(previous, line.body):
                    raise StoreError(f"the record was changed at line {position}")
                previous = line.digest
                yield Line(line.number, line.body, line.digest)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
