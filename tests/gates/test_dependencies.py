"""Every dependency is wanted (a line in docs/dependencies.md), exact and hashed (the locks)."""

from __future__ import annotations

import re
from importlib.metadata import packages_distributions

import pytest

from tests.gates.tree import ROOT, imported_modules, product_files, project

REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")


def normalised(requirement: str) -> str:
    """Return the canonical name (PEP 503) of a requirement or of a lock's line."""
    found = REQUIREMENT.match(requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def direct(*extras: str) -> set[str]:
    """Return the names of the base dependencies and those of `extras`."""
    table = project()["project"]
    wanted = [*table["dependencies"], *(item for extra in extras for item in table["optional-dependencies"][extra])]
    return {normalised(item) for item in wanted}


def groups() -> set[str]:
    return {normalised(i) for items in project()["dependency-groups"].values() for i in items if isinstance(i, str)}


def locked(lock: str) -> dict[str, int]:
    """Return the packages of a lock file and how many hashes each has."""
    counts, current = dict[str, int](), ""
    for line in ROOT.joinpath("requirements", lock).read_text(encoding="ascii").splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            current = normalised(line)
            counts[current] = 0
        elif line.strip().startswith("--hash=sha256:"):
            counts[current] += 1
    return counts


@pytest.mark.parametrize("lock", ["host.lock", "box.lock", "build.lock"])
def test_each_locked_package_has_hashes_and_no_index_is_named(lock: str) -> None:
    assert [package for package, hashes in locked(lock).items() if not hashes] == []
    text = ROOT.joinpath("requirements", lock).read_text(encoding="ascii")
    assert re.search(r"://|--(?:extra-)?index|--find-links|-f ", text) is None


def test_the_locks_cover_pyproject() -> None:
    extras = project()["project"]["optional-dependencies"]
    assert direct(*extras) | groups() <= set(locked("host.lock"))
    assert direct("box") <= set(locked("box.lock"))
    assert set(locked("build.lock")) <= set(locked("host.lock"))


def test_a_locked_version_fits_pyproject() -> None:
    """A range edited without `make lock` shows here, not at the next set-up."""
    table = project()["project"]
    items = [*table["dependencies"], *(item for extra in table["optional-dependencies"].values() for item in extra)]
    exact = {normalised(item): item.split("==")[1] for item in items if "==" in item}
    text = ROOT.joinpath("requirements", "host.lock").read_text(encoding="ascii").lower()
    lines = {f"{package}=={version}" for package, version in exact.items()}
    assert sorted(line for line in lines if f"{line} " not in text.replace("qemu.qmp", "qemu-qmp")) == []


def test_each_direct_dependency_is_explained() -> None:
    text = ROOT.joinpath("docs", "dependencies.md").read_text(encoding="utf-8")
    explained = {normalised(found) for found in re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)}
    wanted = direct(*project()["project"]["optional-dependencies"]) | groups()
    assert wanted <= explained, sorted(wanted - explained)
    assert explained <= wanted, f"no longer needed: {sorted(explained - wanted)}"


def test_each_shipped_dependency_is_used() -> None:
    """Imported somewhere, or run as `python -m`: what nobody uses only widens the attack surface."""
    modules = {module.split(".")[0] for path in product_files() for module in imported_modules(path)}
    run_as_modules = {"virt"}  # image: virt.firmware.vars
    distributions = packages_distributions().items()
    used = {normalised(d) for name, ds in distributions if name.split("/")[0] in modules | run_as_modules for d in ds}
    wanted = direct(*project()["project"]["optional-dependencies"])
    assert wanted <= used, f"not used: {sorted(wanted - used)}"
