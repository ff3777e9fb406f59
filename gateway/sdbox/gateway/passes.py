"""What was seen of each box when it last passed: checked against next time (checklist 6 and 15), and watched (29)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from sqlalchemy import String, Text, select
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
            row = session.get(_Row, str(box))
        if row is None:
            return None
        try:
            return msgspec.json.decode(row.body, type=Pass)
        except msgspec.MsgspecError as error:
            raise StoreError(f"the last pass of box {box} is unreadable") from error

    def keep(self, box: BoxId, ak_name: bytes, seen: Seen, *, image_version: str) -> None:
        """Remember a pass, now."""
        at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        body = msgspec.json.encode(Pass(ak_name, seen, image_version, at)).decode()
        with Session(self._engine) as session, session.begin():
            session.merge(_Row(uuid=str(box), body=body))

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
