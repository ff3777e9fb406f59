"""A PC/SC service of its own with a virtual reader (vpcd) in it, for emulated cards.

pcscd runs in a network namespace of its own, because vpcd listens on every interface; it gets its socket passed
(systemd's protocol), so that no mount namespace is needed and clients find it by PCSCLITE_CSOCK_NAME.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sdbox.bench.card_places import places
from sdbox.bench.card_stack import Stack, host_stack
from sdbox.smartcard.pcsc import PcscError, card_in

READER: Final = "Virtual PCD 00 00"
PORT: Final = 35963  # in a namespace of its own: no clash
READER_CONF: Final = 'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:{port}\nLIBPATH {vpcd}\nCHANNELID 0x8C7B\n'

ENTER: Final = 'ip link set lo up && exec 3<&"$0" && exec "$@"'
ACTIVATE: Final = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'


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


class Pcscd:
    """One pcscd. `restart` is what an update or a crash of it does."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.emptied: dict[int, float] = {}  # when a card last left each slot
        os.environ["PCSCLITE_CSOCK_NAME"] = str(places().socket)
        readers = places().folder / "readers"
        readers.mkdir(exist_ok=True)
        (readers / "vpcd").write_text(READER_CONF.format(port=PORT, vpcd=stack.vpcd))
        self._start()

    def _start(self) -> None:
        places().socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(places().socket))
            listener.listen(16)
            command = [*self.stack.prefix, "bash", "-c", ACTIVATE, "pcscd", *self.stack.pcscd_options]
            command += ["--foreground", "--config", str(places().folder / "readers")]
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


@contextmanager
def running_pcscd(stack: Stack | None = None) -> Iterator[Pcscd]:
    pcscd = Pcscd(stack or host_stack())
    try:
        yield pcscd
    finally:
        pcscd.stop()
