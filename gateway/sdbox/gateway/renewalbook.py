"""Which card certificate was renewed by which: the centre's half of the renewal's journal.

A row goes from *issued* (the old certificate works, the new one may be on the card) to *confirmed* (the new one has
signed, the old one opens nothing). It is written before the box hears of it, so a box that comes back after a power
cut finds the same certificate and not a second one.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Boolean, Engine, Integer, String, Text, or_, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

MOST_ISSUED: Final = 5  # for one old certificate: a box that never writes what it asks for does not drain the CA


class _Base(DeclarativeBase):
    pass


class _Renewal(_Base):
    __tablename__ = "renewals"
    old: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the certificates
    new: Mapped[str] = mapped_column(String(64), index=True)
    public_key: Mapped[str] = mapped_column(String(64))  # SHA-256 of the new one's SubjectPublicKeyInfo
    old_serial: Mapped[str] = mapped_column(String(40), index=True)  # hex, as revocations have them
    new_serial: Mapped[str] = mapped_column(String(40), index=True)
    certificate: Mapped[str] = mapped_column(Text)  # the new one, base64 DER
    issued: Mapped[int] = mapped_column(Integer)  # how many so far
    confirmed: Mapped[bool] = mapped_column(Boolean)
    changed: Mapped[str] = mapped_column(String(32))


@dataclass(frozen=True, slots=True)
class Successor:
    """What an old certificate was renewed by. `confirmed`: the new one has signed, the old one is void."""

    certificate: bytes  # DER
    public_key: str
    issued: int
    confirmed: bool

    @property
    def is_spent(self) -> bool:
        """Whether no other certificate may be issued in its place."""
        return self.confirmed or self.issued >= MOST_ISSUED


@dataclass(frozen=True, slots=True)
class Issued:
    """A renewal as it is written down: both certificates (DER) and their serial numbers in hex."""

    old: bytes
    old_serial: str
    new: bytes
    new_serial: str
    public_key: str  # SHA-256 of the new SubjectPublicKeyInfo


def fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


class RenewalBook:
    """The table of renewals. Every call is one short transaction; any thread may call."""

    def __init__(self, engine: Engine) -> None:
        """Make the table if it is missing."""
        self._engine = engine
        _Base.metadata.create_all(engine)

    def successor(self, old: bytes) -> Successor | None:
        """Return what the certificate `old` (DER) was renewed by; None if it was not."""
        with Session(self._engine) as session:
            row = session.get(_Renewal, fingerprint(old))
            return None if row is None else _successor(row)

    def note_issued(self, issued: Issued) -> str | None:
        """Write a renewal down; return the serial number of the certificate that this replaces, if any.

        What was confirmed is never replaced: ValueError.
        """
        with Session(self._engine) as session, session.begin():
            row = session.get(_Renewal, fingerprint(issued.old), with_for_update=True)
            if row is not None and row.confirmed:
                raise ValueError("renewed and confirmed already")
            replaced = None if row is None else row.new_serial
            row = row or _Renewal(old=fingerprint(issued.old), old_serial=issued.old_serial, issued=0, confirmed=False)
            row.new, row.new_serial, row.public_key = fingerprint(issued.new), issued.new_serial, issued.public_key
            row.certificate, row.changed = base64.b64encode(issued.new).decode(), _now()
            row.issued += 1
            session.add(row)
        return replaced

    def confirm(self, new: bytes) -> str | None:
        """Void the certificate that `new` (DER) renewed; return the old one's SHA-256, None if `new` renews nothing.

        Saying it twice is no error: the answer may have been lost with the card.
        """
        with Session(self._engine) as session, session.begin():
            row = session.scalar(select(_Renewal).filter_by(new=fingerprint(new)))
            if row is None:
                return None
            if not row.confirmed:
                row.confirmed, row.changed = True, _now()
            return row.old

    def relatives(self, serial: str) -> frozenset[str]:
        """Return the serial numbers of all that the certificate `serial` renewed or was renewed by, itself included.

        Who revokes one means the holder: all of them go.
        """
        found, waiting = {serial}, [serial]
        with Session(self._engine) as session:
            while waiting:
                one = waiting.pop()
                either = or_(_Renewal.old_serial == one, _Renewal.new_serial == one)
                pairs = session.execute(select(_Renewal.old_serial, _Renewal.new_serial).where(either))
                fresh = {serial for pair in pairs for serial in pair} - found
                found |= fresh
                waiting += fresh
        return frozenset(found)


def _successor(row: _Renewal) -> Successor:
    return Successor(base64.b64decode(row.certificate), row.public_key, row.issued, row.confirmed)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
