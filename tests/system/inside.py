"""What a box of the debug profile is asked at its console about itself: who reaches what, and what lies about."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from sdbox.bench.census import run_in_box
from sdbox.qemu.machine import Machine

REACH = r"""
import json, os, pwd, socket
def reaches(name):
    pid = os.fork()
    if pid == 0:
        user = pwd.getpwnam(name)
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        try:
            socket.socket(socket.AF_UNIX).connect("/run/pcscd/pcscd.comm")
        except PermissionError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
print("\nreach", json.dumps({name: reaches(name) for name in NAMES}), "end")
"""
# Programs that may leave a core file, the kernel's and systemd's settings; PID 1 itself sets its own limit, see below.
CORES = r"""
import glob, json
def read(path):
    try:
        return open(path).read()
    except OSError:
        return ""
able = [read(pid + "/comm").strip() for pid in glob.glob("/proc/[0-9]*") if read(pid + "/cmdline")
        for line in read(pid + "/limits").splitlines() if line.startswith("Max core file") and line.split()[4] != "0"]
units = glob.glob("/usr/lib/systemd/system/*coredump*") + glob.glob("/var/lib/systemd/coredump/*")
settings = [read("/proc/sys/" + name).strip() for name in ("kernel/core_pattern", "fs/suid_dumpable")]
print("\ncores", json.dumps({"able": sorted(able), "units": units, "settings": settings}), "end")
"""

# Run as `user` in the network namespace of a process, or in the main one: which of TARGETS answer. Refused is an answer
# too: the packet went there. They are given a while, and as long as the one called "control" needs.
NETWORK = r"""
import errno, glob, json, os, pwd, socket, time
def owned(name):
    uid = pwd.getpwnam(name).pw_uid
    return [pid for pid in glob.glob("/proc/[0-9]*") if os.path.exists(pid + "/exe") and os.stat(pid).st_uid == uid]
def answers(line):
    try:
        line.getpeername()
        return True
    except OSError:
        return line.refused or line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
class Line(socket.socket):
    __slots__ = ("refused",)
def tried(targets, namespace, name):
    if namespace:
        os.setns(os.open(namespace + "/ns/net", os.O_RDONLY), os.CLONE_NEWNET)
    user = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    lines = {what: Line(socket.AF_INET) for what in targets}
    for what, line in lines.items():
        line.setblocking(False)
        line.refused = line.connect_ex(tuple(targets[what])) == errno.ECONNREFUSED
    end = time.monotonic() + 30
    while time.monotonic() < end and not answers(lines["control"]):
        time.sleep(0.1)
    time.sleep(4)
    return {what: answers(line) for what, line in lines.items()}
def reach(*given):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.write(writer, json.dumps(tried(*given)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    return open(reader)
client = owned("sdbox-rdp")[0]
asked = {"bubble": reach(BUBBLE, client, "sdbox-rdp")}  # all at once: a session that nobody uses ends in a minute
asked |= {name: reach(MAIN, None, name) for name in ("root", "sdbox-rdp")}
print("\nnetwork", json.dumps({who: json.loads(pipe.read()) for who, pipe in asked.items()}), "end")
"""
# Each secret arrives disguised, so that typing the question does not put it there. The tunnel's own key never leaves.
SECRETS = r"""
import base64, glob, json, os, pwd, stat, subprocess, sys
from sdbox.agent.netlink import DUMP, attribute, attributes, text
from sdbox.agent.wireguard import WireGuard
undisguised = lambda given: bytes(byte ^ 0x5A for byte in base64.b64decode(given))
def own_keys():
    uid = pwd.getpwnam("sdbox-rdp").pw_uid
    for pid in glob.glob("/proc/[0-9]*"):
        if os.path.exists(pid + "/exe") and os.stat(pid).st_uid == uid:
            os.setns(os.open(pid + "/ns/net", os.O_RDONLY), os.CLONE_NEWNET)
            for name in (name for _, name in __import__("socket").if_nameindex() if name != "lo"):
                for answer in WireGuard()._ask(0, attribute(2, text(name)), flags=DUMP):
                    yield from (value for kind, value in attributes(answer[4:]) if kind == 3)
            return
keys = list(own_keys()) if KEYS else []
spellings = {}
given = [(name, undisguised(text)) for name, text in GIVEN.items()]
for name, value in given + [("tunnel key", key) for key in keys]:
    forms = {"raw": value, "hex": value.hex().encode(), "HEX": value.hex().upper().encode()}
    forms |= {"base64": base64.b64encode(value).rstrip(b"="), "base64url": base64.urlsafe_b64encode(value).rstrip(b"=")}
    spellings |= {f"{name} as {form}": spelt for form, spelt in forms.items()}
def content(path, flags=0):
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | flags)
    except OSError:
        return b""
    read = []
    while True:
        try:
            piece = os.read(descriptor, 1 << 20)
        except OSError:
            piece = b""
        if not piece:
            os.close(descriptor)
            return b"".join(read)
        read.append(piece)
def places():
    for pid in glob.glob("/proc/[0-9]*"):
        for name in ("cmdline", "environ"):
            yield pid + "/" + name, content(pid + "/" + name)
    yield "the kernel's log", content("/dev/kmsg", os.O_NONBLOCK)
    mounts = [line.split()[1:4] for line in open("/proc/mounts")]
    for mount, kind, options in mounts:
        if kind in ("tmpfs", "ramfs", "devtmpfs", "ext4", "vfat", "overlay") and options.startswith("rw"):
            for folder, _, names in os.walk(mount):
                for name in names:
                    path = os.path.join(folder, name)
                    if stat.S_ISREG(os.lstat(path).st_mode):
                        yield path, content(path)
planted = next(value for name, value in spellings.items() if name.endswith("as hex")).decode()
open("/run/sdbox-planted", "w").write(planted)
decoy = subprocess.Popen([sys.executable, "-c", "input()", planted], env={"PLANTED": planted}, stdin=subprocess.PIPE)
where = {"/run/sdbox-planted", f"/proc/{decoy.pid}/cmdline", f"/proc/{decoy.pid}/environ"}
found, looked = set(), 0
for place, text_there in places():
    looked += 1
    found |= {(place, name) for name, spelling in spellings.items() if spelling in text_there}
decoy.communicate(b"\n")
os.unlink("/run/sdbox-planted")
elsewhere = sorted(f"{name} in {place}" for place, name in found if place not in where)
seen = {"looked": looked, "keys": len(keys), "planted": len({place for place, _ in found} & where), "found": elsewhere}
print("\nsecrets", json.dumps(seen), "end")
"""
REST = r"""
import glob, json, os, pwd, socket
uid = pwd.getpwnam("sdbox-rdp").pw_uid
clients = [pid for pid in glob.glob("/proc/[0-9]*") if os.path.exists(pid + "/exe") and os.stat(pid).st_uid == uid]
links = {}
for name in glob.glob("/proc/[0-9]*/task/*/ns/net"):
    number = os.stat(name).st_ino
    if number not in links:
        os.setns(os.open(name, os.O_RDONLY), os.CLONE_NEWNET)
        links[number] = [link for _, link in socket.if_nameindex()]
print("\nrest", json.dumps({"clients": len(clients), "links": sorted(sum(links.values(), []))}), "end")
"""


def disguised(value: bytes) -> str:
    """Return a form of `value` that nothing looks for."""
    return b64encode(bytes(byte ^ 0x5A for byte in value)).decode()


def who_reaches_the_readers(machine: Machine, names: Sequence[str]) -> dict[str, bool]:
    """Return for each user whether pcscd's socket lets it in, with all the groups that it has."""
    return dict(json.loads(run_in_box(machine, f"NAMES = {list(names)!r}\n{REACH}", "reach")))


def core_files(machine: Machine) -> dict[str, list[str]]:
    """Return who could leave a core file (`able`), systemd's units for them, and the kernel's settings."""
    return dict(json.loads(run_in_box(machine, CORES, "cores")))


def what_answers(machine: Machine, bubble: Mapping[str, tuple[str, int]], main: Mapping[str, tuple[str, int]]) -> Any:  # noqa: ANN401 - JSON
    """Return which of the addresses answer: to the desktop's client's user in its namespace, and in the main one."""
    program = f"BUBBLE, MAIN = {dict(bubble)!r}, {dict(main)!r}\n{NETWORK}"
    return json.loads(run_in_box(machine, program, "network", 180))


def secrets_about(machine: Machine, secrets: Mapping[str, bytes], *, keys: bool) -> Any:  # noqa: ANN401 - JSON
    """Return where any of these secrets, and with `keys` the session's own tunnel key, is to be read in the box."""
    given = {name: disguised(value) for name, value in secrets.items()}
    return json.loads(run_in_box(machine, f"GIVEN, KEYS = {given!r}, {keys}\n{SECRETS}", "secrets", 180))


def rest_of_a_session(machine: Machine) -> Any:  # noqa: ANN401 - JSON
    """Return how many processes the desktop's client's user has, and the links of all network namespaces."""
    return json.loads(run_in_box(machine, REST, "rest"))
