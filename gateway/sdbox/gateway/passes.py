"""What was seen of each box when it last passed: checked against next time (checklist 6 and 15), and watched (29)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from sqlalchemy import String, Text, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from sdbox.attestation.verdict import Seen
from sdbox.gateway.store import Base, Store, StoreError
from sdbox.protocol.values import BoxId


class _Row(Base):
    __tablename__ = "passes"
    uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    body: Mapped[str] = mapped_column(Text)


@dataclass(frozen=True, slots=True)
class Pass:
    """A box's last accepted evidence: its attestation key's Name, clock and log, the image, when (ISO 8601, UTC)."""

    ak_name: bytes
    seen: Seen
    image_version: str
    at: str

    @classmethod
    def now(cls, ak_name: bytes, seen: Seen, image_version: str) -> Pass:
        """Return a pass at this moment."""
        return cls(ak_name, seen, image_version, dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"))

    def age(self) -> float:
        """Return the seconds since."""
        return (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(self.at)).total_seconds()


class Passes:
    """The passes of a store. Every call is one short transaction; any thread may call."""

    def __init__(self, store: Store) -> None:
        self._engine = store.engine
        Base.metadata.create_all(self._engine)

    def last(self, box: BoxId) -> Pass | None:
        """Return the box's last pass; StoreError if what is kept of it can not be read: never taken for none."""
        with Session(self._engine) as session:
            return _decoded(session.get(_Row, str(box)))

    def keep(self, box: BoxId, known: Pass, *, after: Pass | None) -> bool:
        """Remember `known` in place of `after`, which it was judged against.

        False, and nothing is changed, if something else is kept by now: so what is remembered never goes back.
        """
        body = msgspec.json.encode(known).decode()
        try:
            with Session(self._engine) as session, session.begin():
                row = session.get(_Row, str(box))
                if _decoded(row) != after:
                    return False
                if row is None:
                    session.add(_Row(uuid=str(box), body=body))
                    return True
                # Named by its body: whoever wrote between the two statements has changed that.
                unchanged = update(_Row).where(_Row.uuid == row.uuid, _Row.body == row.body)
                return bool(session.connection().execute(unchanged.values(body=body)).rowcount)
        except IntegrityError:  # the box's first pass, and another channel's was quicker
            return False

    def forget(self, box: BoxId) -> bool:
        """Forget the box's last pass: for an operator who knows why its TPM starts anew. False if there is none."""
        with Session(self._engine) as session, session.begin():
            row = session.get(_Row, str(box))
            if row is not None:
                session.delete(row)
            return row is not None

    def all(self) -> Iterator[tuple[BoxId, Pass]]:
        """Yield every box that ever passed."""
        with Session(self._engine) as session:
            for row in session.scalars(select(_Row).order_by(_Row.uuid)):
                yield BoxId.parse(row.uuid), msgspec.json.decode(row.body, type=Pass)


def _decoded(row: _Row | None) -> Pass | None:
    if row is None:
        return None
    try:
        return msgspec.json.decode(row.body, type=Pass)
    except msgspec.MsgspecError as error:
        raise StoreError(f"the last pass of box {row.uuid} is unreadable") from error
