"""The kernel command line, which is signed and measured with the UKI."""

from __future__ import annotations

from sdbox.image.request import Profile

LOCKED_DOWN = (
    "ro",
    "lockdown=confidentiality",
    "module.sig_enforce=1",
    "lsm=lockdown,yama,landlock",  # the BPF one costs a second of boot and nothing here uses it
    "iommu=force",
    "intel_iommu=on",
    "iommu.strict=1",
    "iommu.passthrough=0",
    "slab_nomerge",
    "init_on_alloc=1",
    "page_alloc.shuffle=1",
    "randomize_kstack_offset=on",
    "vsyscall=none",
    "debugfs=off",
    "oops=panic",
    "panic=10",
)
QUIET = (
    "console=tty0",
    "console=ttyS0",
    "quiet",
    "loglevel=4",
    "cryptomgr.notests",
    "vt.global_cursor_default=0",
    "psi=0",
)
# Nothing from outside the image becomes configuration: no SMBIOS credentials, no automatic mounts, no rescue shell.
CLOSED = (
    "systemd.import_credentials=no",
    "systemd.gpt_auto=no",
    "rd.shell=0",
    "rd.emergency=reboot",
    "systemd.crash_reboot=yes",
)
END = "sdbox.end"  # image/initrd/init.c: nothing may follow, whoever appends it


def kernel_command_line(root_hash: str, profile: Profile, extra: tuple[str, ...] = ()) -> str:
    """Return the command line for a root of this hash; `extra` is for variants such as `init=` of another program."""
    status = "systemd.show_status=no" if profile is Profile.PRODUCTION else "systemd.show_status=yes"
    return " ".join((f"roothash={root_hash}", *LOCKED_DOWN, *QUIET, status, *CLOSED, *extra, END))
