"""What the card worker does to itself before it sees a PIN: no core file, no debugger, no swap, no orphan."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # prctl(2)
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38
MCL_ALL: Final = 1 | 2 | 4  # mlockall(2): MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT


def harden_process() -> None:
    """Forbid core files, tracing and new privileges, die with the parent, and lock memory where that is allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for option, value in ((PR_SET_DUMPABLE, 0), (PR_SET_NO_NEW_PRIVS, 1), (PR_SET_PDEATHSIG, int(signal.SIGKILL))):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    # With a finite limit a later allocation would fail in the middle of a session: only lock what can grow.
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY or os.geteuid() == 0:
        libc.mlockall(MCL_ALL)
