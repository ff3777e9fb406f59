"""A lab leaves nothing: after its block, after a failure half-way, and after its owner was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sdbox.bench.bubble import ATLAS, Bubble
from sdbox.bench.network import Network, NetworkFailed, clean_up, ip, namespaces
from sdbox.host.workfolder import work_prefix
from sdbox.qemu.deadline import wait_for
from tests.gates.tree import ROOT

pytestmark = pytest.mark.root

KILLED_OWNER = """
import os, pathlib, sys, tempfile
from sdbox.bench.network import Network
from sdbox.host.workfolder import work_prefix
work, other = (pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1], prefix=work_prefix(kind))) for kind in ("lab", "run"))
network = Network(work, ["atlas"])
network.__enter__()
print(network.campus, flush=True)
os.kill(os.getpid(), 9)
"""


def processes_naming(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(path.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_lab_leaves_no_namespace_process_or_mount(tmp_path: Path) -> None:
    before = Path("/proc/mounts").read_text()
    with Network(tmp_path, ["atlas"]) as network, Bubble(ATLAS, network, tmp_path):
        nic = network.add_tap()
        assert nic.tap in ip("-n", network.campus, "link")
        names = {network.campus, network.centre, network.bubble("atlas")}
        assert names <= set(namespaces())
        assert processes_naming(tmp_path)
    assert not names & set(namespaces())
    assert processes_naming(tmp_path) == []
    ours = [line for line in Path("/proc/mounts").read_text().splitlines() if str(tmp_path) in line]
    assert ours == []
    assert before.count(str(tmp_path)) == 0


def test_a_failure_half_way_removes_what_was_made(tmp_path: Path) -> None:
    too_long = "a" * 300  # longer than a file name may be
    broken = Network(tmp_path, ["atlas", too_long])
    with pytest.raises(NetworkFailed, match="netns add"), broken:
        pass
    assert not {broken.campus, broken.centre, broken.bubble("atlas")} & set(namespaces())


def test_a_killed_owner_s_lab_is_cleaned_up(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILLED_OWNER, str(tmp_path)]
    campus = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    assert campus in namespaces()
    wait_for(lambda: not processes_naming(tmp_path), "the lab's processes to die with their owner", 5)
    ours = Path(tempfile.mkdtemp(dir=tmp_path, prefix=work_prefix("lab")))
    with Network(ours, []) as running:
        removed = clean_up(tmp_path)
        assert running.campus in namespaces(), "a lab whose owner runs is not touched"
    assert campus in removed
    assert campus not in namespaces()
    assert list(tmp_path.iterdir()) == [ours]


def test_a_test_run_as_root_begins_with_cleaning_up(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, ours = tmp_path / f"sdbox-run-{ended.pid}-x", tmp_path / f"sdbox-run-{os.getpid()}-x"
    for folder in (left, ours):
        folder.mkdir()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", __file__]
    subprocess.run(command, env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=ROOT, check=True, capture_output=True)
    assert (left.exists(), ours.exists()) == (False, True)


def test_a_box_s_address_is_always_the_same(tmp_path: Path) -> None:
    with Network(tmp_path, []) as network:
        log = (tmp_path / "dnsmasq.log").read_text()
        assert "DHCP, IP range 198.51.100.100" in log
        assert network.add_tap().tap != network.add_tap().tap
