"""Namespace `bubble` and its packet filter on a real kernel; links of kind veth stand in where only moving counts."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sdbox.agent.firewall import allow_endpoints, apply_rules, bubble_rules, closed_rules, no_endpoints
from sdbox.agent.keys import TunnelKey
from sdbox.agent.namespace import Namespace
from sdbox.agent.netlink import ROUTE, Netlink, configure_link, create_link, delete_link, link_index
from sdbox.agent.tunnel import INTERFACE, Tunnel, Way
from sdbox.image.request import SiteSettings
from sdbox.image.site import firewall_rules
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import TunnelGrant

pytestmark = pytest.mark.root
GRANT = TunnelGrant(("203.0.113.10:51821",), b"\1" * 32, b"\2" * 32, "10.64.1.2/32", ("10.64.1.0/24",))


@pytest.fixture
def bubble() -> Iterator[Namespace]:
    with Namespace() as namespace:
        yield namespace


def inside(namespace: Namespace, *command: str) -> str:
    """Run a program in the namespace, as the RDP client is run, and return its output."""

    def work() -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout

    return asyncio.run(namespace.run(work))


def test_the_namespace_is_new_and_has_no_name(bubble: Namespace) -> None:
    assert os.fstat(bubble.fd).st_ino != Path("/proc/self/ns/net").stat().st_ino
    assert inside(bubble, "readlink", "/proc/self/ns/net").strip() == f"net:[{os.fstat(bubble.fd).st_ino}]"
    assert [line.split(":")[1].strip() for line in inside(bubble, "ip", "-o", "link").splitlines()] == ["lo"]


def test_without_a_session_nothing_goes_out(bubble: Namespace) -> None:
    asyncio.run(bubble.run(lambda: apply_rules(closed_rules())))
    rules = inside(bubble, "nft", "list", "ruleset")
    assert rules.count("policy drop") == 3
    assert "accept" not in rules


@pytest.mark.parametrize("host", ["10.64.1.1", "fd00::1"])
def test_with_a_session_one_connection_may(bubble: Namespace, host: str) -> None:
    asyncio.run(bubble.run(lambda: apply_rules(bubble_rules("sdbox0", host, 3389))))
    accepts = [line for line in inside(bubble, "nft", "list", "ruleset").splitlines() if "accept" in line]
    assert len(accepts) == 3
    assert all('"sdbox0"' in line for line in accepts)
    assert sum(host in line and "3389" in line for line in accepts) == 2


def test_only_the_desktop_is_reachable_through_the_link(bubble: Namespace) -> None:
    """Packets, not rules: two ports listen at the far end of a link, one answers."""
    with Namespace() as far:
        name, other = f"sdt{os.getpid() % 100000}a", f"sdt{os.getpid() % 100000}b"
        pair_of_links(name, bubble, other, far)
        asyncio.run(far.run(lambda: with_route(lambda route: configure_link(route, other, "10.64.1.1/24", ()))))
        inner = ("10.64.1.2/32", ("10.64.1.0/24",))
        asyncio.run(bubble.run(lambda: with_route(lambda route: configure_link(route, name, *inner))))
        listeners = asyncio.run(far.run(lambda: [socket.create_server(("10.64.1.1", port)) for port in (1, 2)]))
        asyncio.run(bubble.run(lambda: apply_rules(bubble_rules(name, "10.64.1.1", 1))))
        assert asyncio.run(bubble.run(lambda: can_connect("10.64.1.1", 1)))
        assert not asyncio.run(bubble.run(lambda: can_connect("10.64.1.1", 2)))
        asyncio.run(bubble.run(lambda: apply_rules(closed_rules())))
        assert not asyncio.run(bubble.run(lambda: can_connect("10.64.1.1", 1)))
        asyncio.run(bubble.run(lambda: with_route(lambda route: delete_link(route, name))))
        assert name not in inside(bubble, "ip", "-o", "link")
        for listener in listeners:
            listener.close()


def pair_of_links(name: str, space: Namespace, other: str, far: Namespace) -> None:
    """Make a veth pair with one end in each namespace."""
    ends = {end: f"/proc/{os.getpid()}/fd/{where.fd}" for end, where in ((name, space), (other, far))}
    command = ["ip", "link", "add", name, "netns", ends[name], "type", "veth", "peer", "name", other]
    subprocess.run([*command, "netns", ends[other]], check=True, timeout=10)


def with_route(work: Callable[[Netlink], None]) -> None:
    with Netlink(ROUTE) as route:
        work(route)


def test_a_link_is_made_in_the_namespace_and_deleted_there(bubble: Namespace) -> None:
    """Never for a moment where the rest of the box could see it."""
    name = f"sdl{os.getpid() % 100000}"
    with_route(lambda route: create_link(route, name, "ifb", bubble.fd))
    assert link_index(name) is None
    assert name in inside(bubble, "ip", "-o", "link")
    asyncio.run(bubble.run(lambda: with_route(lambda route: delete_link(route, name))))
    assert name not in inside(bubble, "ip", "-o", "link")
    asyncio.run(bubble.run(lambda: with_route(lambda route: delete_link(route, name))))  # there is none: nothing to do


def test_what_the_kernel_refuses_is_an_error_with_its_number(bubble: Namespace) -> None:
    with pytest.raises(OSError, match=r"Operation not supported") as refused:
        with_route(lambda route: create_link(route, "sdl0", "no-such-kind", bubble.fd))
    assert refused.value.errno == errno.EOPNOTSUPP


def can_connect(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def test_the_images_ruleset_has_the_agents_set(bubble: Namespace, tmp_path: Path) -> None:
    """Both sides of an agreement between two components, loaded into one kernel."""
    rules = firewall_rules(SiteSettings(centre_ca=tmp_path))
    asyncio.run(bubble.run(lambda: apply_rules(rules)))
    asyncio.run(bubble.run(lambda: apply_rules(allow_endpoints(GRANT.endpoints))))
    assert "203.0.113.10 . 51821" in inside(bubble, "nft", "list", "set", "inet", "sdbox", "tunnel_endpoints")
    asyncio.run(bubble.run(lambda: apply_rules(no_endpoints())))
    assert "51821" not in inside(bubble, "nft", "list", "set", "inet", "sdbox", "tunnel_endpoints")


def test_rules_that_nft_refuses_are_a_refusal(bubble: Namespace) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(bubble.run(lambda: apply_rules("no rules\n")))
    assert refused.value.reason is Reason.TUNNEL_FAILED


def test_a_tunnel_that_cannot_come_up_leaves_nothing(bubble: Namespace) -> None:
    """Here the main namespace has no set of the agent's, so `up` fails; its key must be gone and the namespace shut."""

    async def scene() -> TunnelKey:
        tunnel, key = Tunnel(bubble), TunnelKey()
        await tunnel.prepare()
        with pytest.raises(Refusal) as refused:
            await tunnel.up(Way(GRANT, key, "10.64.1.1", 3389))
        assert refused.value.reason is Reason.TUNNEL_FAILED
        await tunnel.close()
        return key

    key = asyncio.run(scene())
    with pytest.raises(ValueError, match="wiped"):
        key.private()
    assert INTERFACE not in inside(bubble, "ip", "-o", "link")
    assert "accept" not in inside(bubble, "nft", "list", "ruleset")
