"""A SoftHSM token, "put" into a box of the debug profile over its second serial port (image/rootfs-debug).

The token is made here, with key pairs and certificates by the development card CA, and travels as an archive. It
behaves as a card at hand: inserted and removed by the bench, unlocked by the PIN typed on the box's screen.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sdbox.host.workfolder import work_prefix
from sdbox.qemu.deadline import Overdue, wait_for
from sdbox.qemu.spec import MachineSpec
from sdbox.smartcard.variants import Variant, module_path
from sdbox.smartcard.virtual.personalise import FilledContainer

PIN: Final = "123456"  # of development tokens only, as the emulated cards'
OFFICER_PIN: Final = "12345678"
MAKE_SECONDS: Final = 20.0
PING_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 15.0
ANSWERS: Final = {"pong": "slot", "in": "card in", "out": "card out", "failed": "card failed"}


class NoSlotError(RuntimeError):
    """Nothing in the box answers on the second serial port: an image of the production profile, for one."""


def token_label(variant: Variant) -> str | None:
    """Return the label of a variant's token without a reader, None for every other card."""
    return variant.module.token if variant.module else None


def make_token(variant: Variant, containers: Sequence[FilledContainer], folder: Path, pin: str = PIN) -> Path:
    """Make the token of `variant` in `folder`/tokens, certificates beside it; return the configuration for it."""
    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    label, login = token_label(variant) or "", ["--pin", pin]
    _run(conf, "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", OFFICER_PIN, *login)
    for index, container in enumerate(containers, 1):
        key, certificate = folder / "key.pem", folder / f"{index}.der"
        key.write_bytes(container.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate.write_bytes(container.certificate)
        name = ["--label", container.project, "--id", f"{index:02x}"]
        _run(conf, "softhsm2-util", "--import", str(key), "--token", label, *name, *login)
        module = ["--module", module_path(variant), "--token-label", label, "--login", *login]
        _run(conf, "pkcs11-tool", *module, "--write-object", str(certificate), "--type", "cert", *name)
        key.unlink()
    return conf


def _run(conf: Path, *command: str) -> None:
    env = {**os.environ, "SOFTHSM2_CONF": str(conf)}
    subprocess.run(command, env=env, capture_output=True, timeout=MAKE_SECONDS, check=True)


def packed(variant: Variant, containers: Sequence[FilledContainer]) -> bytes:
    """Return a new token's files as the lines that the slot reads: a tar in base64, 76 characters a line."""
    folder = Path(tempfile.mkdtemp(prefix=work_prefix("token")))
    try:
        make_token(variant, containers, folder)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(folder / "tokens", arcname=".")
    finally:
        shutil.rmtree(folder)
    return base64.encodebytes(archive.getvalue())


class SoftToken:
    """The token of one machine, out of its slot until `insert`; the same calls as `sdbox.qemu.card.CardProcess`."""

    def __init__(self, variant: Variant, containers: Sequence[FilledContainer], machine: MachineSpec) -> None:
        self._content = packed(variant, containers)
        address = machine.second_serial_address
        wait_for(address.is_socket, "the second serial port", 10)
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(address))
        self._events: list[tuple[str, float]] = []
        self._reader = threading.Thread(target=self._read, name="token events", daemon=True)
        self._reader.start()

    def events(self, since: int = 0) -> Sequence[tuple[str, float]]:
        """Return the events so far, each with the host's monotonic clock when it was read."""
        return tuple(self._events[since:])

    def mark(self) -> int:
        """Return the position after the last event so far, for `since`."""
        return len(self._events)

    def wait_event(self, event: str, seconds: float = 10.0, *, since: int = 0) -> float:
        """Return when `event` was first seen from `since` on; Overdue with the events otherwise."""

        def seen() -> float | None:
            return next((when for text, when in self._events[since:] if text == event), None)

        try:
            return wait_for(seen, f"the token's slot to say {event!r}", seconds, interval=0.005)
        except Overdue as error:
            raise Overdue(f"{error}; it said {[text for text, _ in self.events(since)]}") from error

    def insert(self) -> float:
        """Send the token; returns when the box has it. NoSlotError if nobody is there to take it."""
        self.find_slot()
        since = self.mark()
        self.send()
        return self.wait_event("card in", ANSWER_SECONDS, since=since)

    def remove(self) -> float:
        """Take the token away; returns when the box's agent has been told."""
        since = self.mark()
        self._line.sendall(b"remove\n")
        return self.wait_event("card out", ANSWER_SECONDS, since=since)

    def touch(self, finger: str) -> None:
        """Fail: a token has no sensor."""
        raise NoSlotError(f"a token has no sensor for finger {finger!r}")

    def stop(self) -> None:
        """Hang up. A token that is in stays where it is, in the box's memory."""
        with suppress(OSError):  # the machine may be off already
            self._line.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._line.close()

    def send(self) -> None:
        """Send the token, whether or not anybody is there."""
        self._line.sendall(b"insert\n" + self._content + b".\n")

    def find_slot(self, seconds: float = ANSWER_SECONDS) -> None:
        """Ask until answered: what is sent before the box has opened its port is lost. NoSlotError after `seconds`."""
        since, end = self.mark(), time.monotonic() + seconds
        while time.monotonic() < end:
            self._line.sendall(b"ping\n")
            try:
                self.wait_event("slot", PING_SECONDS, since=since)
            except Overdue:
                continue
            return
        raise NoSlotError(f"no slot for a token answered in {seconds:g} s: it is in the debug profile only")

    def _read(self) -> None:
        with self._line.makefile("rb") as lines:  # the firmware's own output may be among them
            for line in lines:
                if event := ANSWERS.get(line.decode(errors="replace").strip()):
                    self._events.append((event, time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
