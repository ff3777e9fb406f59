"""The arguments of `sdbox-agent`, for people: the service manager gives none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from sdbox.agent.config import SITE


def command(run: Callable[[Path], None]) -> None:
    """Read the command line and call `run` with the site's settings file. Ends the program as click does."""

    @click.command("sdbox-agent", epilog="Example: sdbox-agent --site /usr/lib/sdbox/site.toml")
    @click.option(
        "--site", type=click.Path(path_type=Path), default=SITE, show_default=True, help="The site's settings."
    )
    def parse(site: Path) -> None:
        """Run the box: attestation, card, tunnel, desktop. The service manager starts it."""
        run(site)

    parse()
