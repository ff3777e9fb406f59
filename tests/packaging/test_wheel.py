"""The wheel, installed in a clean environment: its commands start, its data is there, and it hides nobody's package."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_virtualenv import VirtualEnv

from tests.gates.tree import COMPONENTS, ROOT

FOLDERS = ("sdbox/", "sdbox-")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the locked hatchling that is already here: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def clean(wheel: Path) -> Iterator[Path]:
    """Yield the `bin` folder of an environment with the locked dependencies, installed by the book, and the wheel."""
    with VirtualEnv(args=["--clear"]) as environment:
        folder = Path(str(environment.virtualenv), "bin")
        pip = [str(folder / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        for lock in ("build", "host"):
            _succeed([*pip, "--require-hashes", "--requirement", str(ROOT / "requirements" / f"{lock}.lock")])
        _succeed([*pip, str(wheel)])
        yield folder


def _succeed(command: list[str]) -> str:
    """Run outside the work tree, so that nothing of it is imported by accident."""
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_only_sdbox_is_in_the_wheel(wheel: Path) -> None:
    """Nothing lands beside `sdbox`: not `smartcard`, not `qemu`, no tests, no unit files."""
    assert [name for name in names(wheel) if not name.startswith(FOLDERS)] == []
    assert not {"sdbox/__init__.py", "__init__.py"} & set(names(wheel))


def test_each_component_is_in_the_wheel(wheel: Path) -> None:
    assert {f"sdbox/{part}/__init__.py" for part in COMPONENTS} <= set(names(wheel))


def test_each_card_variant_is_in_the_wheel(wheel: Path) -> None:
    variants = {f"sdbox/smartcard/variants/{path.name}" for path in ROOT.glob("smartcard/variants/*.toml")}
    assert variants
    assert variants <= set(names(wheel))


@pytest.mark.parametrize("command", ["sdbox", "sdbox-agent", "sdbox-gateway"])
def test_each_command_starts(clean: Path, command: str) -> None:
    assert "Usage:" in _succeed([str(clean / command), "--help"])


def test_the_screen_says_what_it_is_without(clean: Path) -> None:
    """PyGObject is on the box only: one line, no traceback."""
    done = subprocess.run(
        [str(clean / "sdbox-screen")], cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("sdbox-screen: No module named 'gi'")


@pytest.mark.parametrize("part", ["run", "image", "card", "eventlog", "verify", "bench", "doctor"])
def test_each_part_of_sdbox_starts(clean: Path, part: str) -> None:
    assert "Usage:" in _succeed([str(clean / "sdbox"), part, "--help"])


def test_the_installed_variants_are_found(clean: Path) -> None:
    assert json.loads(_succeed([str(clean / "sdbox"), "card", "variants", "--json"]))


@pytest.mark.parametrize(
    ("statement", "origin"),
    [
        ("import smartcard.System; print(smartcard.System.__file__)", "site-packages/smartcard/System.py"),
        ("import qemu.qmp; print(qemu.qmp.__file__)", "site-packages/qemu/qmp/__init__.py"),
        ("import sdbox.smartcard; print(sdbox.smartcard.__file__)", "site-packages/sdbox/smartcard/__init__.py"),
        ("import sdbox.qemu; print(sdbox.qemu.__file__)", "site-packages/sdbox/qemu/__init__.py"),
    ],
)
def test_no_package_hides_another(clean: Path, statement: str, origin: str) -> None:
    assert _succeed([str(clean / "python"), "-c", statement]).strip().endswith(origin)
