"""For all tests: a skip has a name, and continuous integration allows none; what killed runs left is removed first."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from sdbox.bench.network import clean_up


def pytest_collection_finish(session: pytest.Session) -> None:
    """Before tests that make namespaces and work folders of their own."""
    if os.geteuid() == 0 and any(item.get_closest_marker("root") for item in session.items):
        clean_up(Path(tempfile.gettempdir()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where CI=true: there, every capability must be present."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which continuous integration does not allow: {report.longrepr}"
    return report
