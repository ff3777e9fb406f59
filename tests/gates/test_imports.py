"""What import-linter can not say: a device library has one door, and the protocol carries no baggage."""

from __future__ import annotations

import sys

import pytest

from tests.gates.tree import imported_modules, name, product_files

LIBRARIES = ("smartcard", "pkcs11", "tpm2_pytss", "dbus_next", "pyudev", "OpenSSL", "virt")


def importers(library: str) -> list[str]:
    """Return the product files that import `library`. `sdbox.smartcard` is ours and not meant."""
    return [name(p) for p in product_files() if any(m.split(".")[0] == library for m in imported_modules(p))]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_device_library_has_one_door(library: str) -> None:
    assert len(importers(library)) <= 1, importers(library)


def test_the_protocol_needs_nothing_but_msgspec() -> None:
    allowed = set(sys.stdlib_module_names) | {"msgspec", "sdbox"}
    extra = {
        name(path): sorted({module.split(".")[0] for module in imported_modules(path)} - allowed)
        for path in product_files()
        if name(path).startswith("protocol/")
    }
    assert {path: modules for path, modules in extra.items() if modules} == {
        "protocol/sdbox/protocol/tls.py": ["OpenSSL"]
    }
