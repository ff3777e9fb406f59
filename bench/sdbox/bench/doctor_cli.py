"""`sdbox doctor`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from sdbox.bench.doctor import Finding, Status, examine


@click.command(epilog="Example: sdbox doctor --json | jq '.[] | select(.status == \"missing\")'")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
def doctor(as_json: bool) -> None:
    """Show what this host has and lacks for `sdbox run` and the tests. Exit code 1 if something is missing."""
    findings = list(examine())
    click.echo(json.dumps([asdict(finding) for finding in findings], indent=2) if as_json else table(findings))
    sys.exit(any(finding.status is Status.MISSING for finding in findings))


def table(findings: list[Finding]) -> str:
    """Return the findings as aligned lines: status, name, what was found, what to do."""
    width = max(len(finding.name) for finding in findings)
    return "\n".join(
        f"{finding.status:8}{finding.name:{width + 2}}{finding.found}"
        + (f"  -> {finding.advice}" if finding.advice else "")
        for finding in findings
    )
