"""A PC/SC service of its own with a virtual reader, emulated cards to put into it, and SoftHSM tokens.

pcscd runs in a network namespace of its own, because vpcd listens on every interface; it gets its socket passed
(systemd's protocol), so that no mount namespace is needed and clients find it by PCSCLITE_CSOCK_NAME.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from sdbox.smartcard.pcsc import PcscError, card_in
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.cvc import Holder, certify, generate_key
from sdbox.smartcard.virtual.personalise import FilledContainer
from tests.service.smartcard_stack import Stack, box_stack, host_stack

READER = "Virtual PCD 00 00"
PORT = 35963  # in a namespace of its own: no clash
POLLED = 0.8  # seconds in which pcscd has surely looked into a reader of vpcd
PIN = "123456"
# libpcsclite remembers the path for as long as a process lives: one for all tests, a new pcscd behind it for each.
_FOLDER = tempfile.TemporaryDirectory(prefix="sdbox-pcsc-")  # removed when the tests end
FOLDER = Path(_FOLDER.name)
CARD_ROOTS = FOLDER / "cvc"  # what the box has in /etc/eac/cvc
CARD_ROOTS.mkdir()
CARD_ROOT_KEY = FOLDER / "card-root.key"
SOCKET = FOLDER / "pcscd.comm"
READER_CONF = 'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:{port}\nLIBPATH {vpcd}\nCHANNELID 0x8C7B\n'

ENTER = 'ip link set lo up && exec 3<&"$0" && exec "$@"'
ACTIVATE = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'
SENSOR = FOLDER / "sensor"  # the box's fingerprint sensor


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


def sees_card(reader: str = READER) -> bool:
    """Whether PC/SC has noticed a card in `reader`; not yet known readers have none."""
    try:
        return card_in(reader) is not None
    except PcscError:
        return False


def stack_named(name: str) -> Stack:
    """Return "host" or "box"."""
    return host_stack() if name == "host" else box_stack(FOLDER, CARD_ROOTS)


class Pcscd:
    """One pcscd. `restart` is what an update or a crash of it does."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.emptied: dict[int, float] = {}  # when a card last left each slot
        os.environ["PCSCLITE_CSOCK_NAME"] = str(SOCKET)
        (FOLDER / "readers").mkdir(exist_ok=True)
        (FOLDER / "readers" / "vpcd").write_text(READER_CONF.format(port=PORT, vpcd=stack.vpcd))
        self._start()

    def _start(self) -> None:
        SOCKET.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(SOCKET))
            listener.listen(16)
            command = [*self.stack.prefix, "bash", "-c", ACTIVATE, "pcscd", *self.stack.pcscd_options]
            command += ["--foreground", "--config", str(FOLDER / "readers")]
            self.process = subprocess.Popen(
                ["unshare", "--net", "bash", "-c", ENTER, str(listener.fileno()), *command],
                pass_fds=(listener.fileno(),),
                stdout=subprocess.DEVNULL,
            )
        wait_for(self._listens, "vpcd to listen")

    def _listens(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError("pcscd ended")
        return f":{PORT:04X} " in Path(f"/proc/{self.process.pid}/net/tcp").read_text()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def restart(self) -> None:
        self.stop()
        self._start()


def card_root_key() -> Path:
    """Return the key that certifies the cards' devices; on first use, made with its certificate for the box."""
    if not CARD_ROOT_KEY.exists():
        key = generate_key()
        private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        CARD_ROOT_KEY.write_bytes(key.private_bytes(*private))
        root = Holder.root(key)
        (CARD_ROOTS / root.reference).write_bytes(certify(root, root))
    return CARD_ROOT_KEY


class EmulatedCard:
    """`sdbox card emulate` on a vpcd wire, as a child process."""

    def __init__(self, pcscd: Pcscd, variant: str, options: Sequence[str], slot: int) -> None:
        command = [sys.executable, "-m", "sdbox.smartcard.cli", "emulate", "--wire", "vpcd"]
        command += ["--address", f"127.0.0.1:{PORT + slot}", "--variant", variant, *options]
        self._pcscd, self._slot = pcscd, slot
        self.events: list[str] = []
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._child = subprocess.Popen(
            ["nsenter", "--target", str(pcscd.process.pid), "--net", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.expect("ready")

    def _read(self) -> None:
        for line in self._child.stdout or ():
            self.events.append(line.strip())
            self._queue.put(line.strip())

    def tell(self, command: str) -> None:
        if self._child.stdin is None:
            raise RuntimeError("no standard input")
        self._child.stdin.write(command + "\n")
        self._child.stdin.flush()

    def expect(self, event: str, seconds: float = 10.0) -> None:
        """Read events until `event` comes."""
        end = time.monotonic() + seconds
        try:
            while self._queue.get(timeout=max(0.0, end - time.monotonic())) != event:
                pass
        except queue.Empty:
            raise TimeoutError(f"waited for {event!r}; events: {self.events}") from None

    def insert(self, *, at_once: bool = False) -> None:
        """Insert the card, after pcscd has noticed that the last one is gone (unless `at_once`).

        vpcd's reader is polled every 0.4 s. A card that comes before the poll is taken for the old one, and pcscd
        1.9.9 sees none at all once a command failed on the old connection. A USB reader tells of each change.
        """
        if not at_once:
            time.sleep(max(0.0, self._pcscd.emptied.get(self._slot, 0.0) + POLLED - time.monotonic()))
            wait_for(lambda: not sees_card(f"Virtual PCD 00 {self._slot:02}"), "PC/SC to see no card")
        self.tell("insert")
        self.expect("card in")

    def remove(self) -> None:
        self.tell("remove")
        self.expect("card out")
        self._pcscd.emptied[self._slot] = time.monotonic()

    @property
    def verifies(self) -> int:
        return sum(event.startswith("verify") for event in self.events)

    def close(self) -> None:
        self._child.kill()
        self._child.wait(10)
        self._pcscd.emptied[self._slot] = time.monotonic()
        self._reader.join(10)


@contextmanager
def running_pcscd(stack: Stack | None = None) -> Iterator[Pcscd]:
    pcscd = Pcscd(stack or host_stack())
    try:
        yield pcscd
    finally:
        pcscd.stop()


@contextmanager
def emulated_card(
    pcscd: Pcscd,
    variant: str,
    projects: Sequence[str] = ("atlas", "boreal"),
    options: Sequence[str] = (),
    *,
    slot: int = 0,
) -> Iterator[EmulatedCard]:
    """Run an emulated card for reader `slot` (vpcd has two)."""
    # The box has one sensor: of several cards that need it, the first one's process is it.
    sensor = variant_named(variant).wants_box_sensor and not SENSOR.is_symlink()
    own = ["--card-root", str(card_root_key()), *([f"--sensor=pty:{SENSOR}"] if sensor else [])]
    os.environ["SDBOX_SENSOR"] = str(SENSOR)
    made = ["--projects", ",".join(projects), "--keys", variant_named(variant).kinds[0]]
    card = EmulatedCard(pcscd, variant, [*made, *own, *options], slot)
    try:
        yield card
    finally:
        card.close()
        if sensor:
            SENSOR.unlink(missing_ok=True)


def make_softhsm_token(folder: Path, containers: Sequence[FilledContainer], pin: str = PIN) -> None:
    """Make the token `sdbox` with `containers`, and point SOFTHSM2_CONF at it."""
    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(conf)
    login = ["--pin", pin]
    run("softhsm2-util", "--init-token", "--free", "--label", "sdbox", "--so-pin", "12345678", *login)
    for index, container in enumerate(containers, 1):
        key, certificate = folder / f"{index}.pem", folder / f"{index}.der"
        private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        key.write_bytes(container.key.private_bytes(*private))
        certificate.write_bytes(container.certificate)
        name = ["--label", container.project, "--id", f"{index:02x}"]
        run("softhsm2-util", "--import", str(key), "--token", "sdbox", *name, *login)
        module = ["--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "sdbox", "--login"]
        run("pkcs11-tool", *module, *login, "--write-object", str(certificate), "--type", "cert", *name)


def run(*command: str, seconds: float = 20.0, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=check)
