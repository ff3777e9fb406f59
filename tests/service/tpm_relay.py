"""Carry TPM commands from the TSS library's `cmd` TCTI (stdin, stdout) to a software TPM's socket, the argument."""

from __future__ import annotations

import os
import selectors
import socket
import sys


def relay(path: str) -> None:
    """Copy both ways until one side ends."""
    with socket.socket(socket.AF_UNIX) as tpm, selectors.DefaultSelector() as ready:
        tpm.connect(path)
        outputs = {0: tpm.fileno(), tpm.fileno(): 1}
        for source in outputs:
            ready.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                data = os.read(key.fd, 8192)
                if not data:
                    return
                os.write(outputs[key.fd], data)


if __name__ == "__main__":
    relay(sys.argv[1])
