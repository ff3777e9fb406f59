"""S8, tried on a whole session: no secret of it in an argument list, an environment, a log, a database or a file."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sdbox.agent.events import SwitchKey
from sdbox.agent.machine import State
from sdbox.protocol.values import DesktopAccess
from tests.service.agent_bench import AgentBench, NoTunnel, running_agent, token
from tests.service.gateway_bench import Bench, running_bench

pytestmark = pytest.mark.root

SECRET_PIN = "29-Kestrel.83"  # nothing else on the host contains it


@dataclass
class Secrets:
    """What nobody may find, in every spelling that a program might write it in."""

    spellings: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, value: bytes) -> None:
        forms = {"raw": value, "hex": value.hex().encode(), "HEX": value.hex().upper().encode()}
        forms |= {"base64": b64encode(value).rstrip(b"="), "base64url": urlsafe_b64encode(value).rstrip(b"=")}
        self.spellings.update({f"{name} as {form}": spelt for form, spelt in forms.items()})

    def found_in(self, where: str, content: bytes) -> list[str]:
        return [f"{name} in {where}" for name, spelt in self.spellings.items() if spelt in content]


def processes() -> Iterator[tuple[str, bytes]]:
    """Yield the argument list and the environment of every process, as anybody with root's rights would see them."""
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                yield f"{folder / name}", (folder / name).read_bytes()
            except OSError:  # ended meanwhile, or has no memory of its own
                continue


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes()


def core_limits(parent: int) -> list[str]:
    """Return the limit on core files of each of `parent`'s children that is a card worker."""
    limits = []
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"sdbox.smartcard.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
            lines = Path(f"/proc/{child}/limits").read_text().splitlines()
            limits += [line.split()[4] for line in lines if line.startswith("Max core file size")]
    return limits


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "box").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'box'}:{os.environ['PATH']}")
    (tmp_path / "centre").mkdir()
    with running_bench(tmp_path / "centre") as bench:
        yield bench


@dataclass
class Search:
    """A session whose secrets are collected, and the places where they are looked for."""

    bench: Bench
    box: Path
    tunnel: NoTunnel = field(default_factory=NoTunnel)
    secrets: Secrets = field(default_factory=lambda: Secrets({"PIN": SECRET_PIN.encode()}))
    found: list[str] = field(default_factory=list)

    def told(self, access: DesktopAccess) -> None:
        self.secrets.add(f"password of {access.user}", access.secret.encode())

    def look(self) -> None:
        for where, content in (*processes(), *files(self.box, self.bench.site.folder)):
            self.found.extend(self.secrets.found_in(where, content))

    async def session(self, agent: AgentBench, project: str) -> None:
        await agent.in_session(project)
        (way,) = self.tunnel.open
        self.secrets.add(f"tunnel key of {project}", bytes(way.key.private()))
        self.secrets.add(f"pre-shared key of {project}", way.grant.preshared)
        self.look()
        agent.agent.post(SwitchKey())
        await agent.until(State.PICKER)


def test_a_session_leaves_no_secret_where_it_could_be_read(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    search = Search(bench, tmp_path / "box")

    async def scene() -> None:
        async with running_agent(bench, search.box, lambda _: search.tunnel, told=search.told) as agent:
            await agent.verified(SECRET_PIN)
            assert core_limits(os.getpid()) == ["0"]
            await search.session(agent, "atlas")
            await search.session(agent, "boreal")
            agent.remove()
            await agent.until(State.INSERT_CARD)
            search.look()

    with token(bench, search.box / "token", "atlas", "boreal", pin=SECRET_PIN):
        asyncio.run(scene())
    said = capfd.readouterr()
    found = search.found + search.secrets.found_in("the agent's log", (said.out + said.err).encode())
    assert len(search.secrets.spellings) == 1 + 5 * 6  # the PIN; for each project two keys and a password, five ways
    assert found == []


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    secrets = Secrets()
    secrets.add("key", bytes(range(32)))
    (tmp_path / "log").write_text(f"key={bytes(range(32)).hex()}")
    assert [hit for where, content in files(tmp_path) for hit in secrets.found_in(where, content)]
