"""The centre's half without a box: network, tunnel and desktop of a bubble, reached by a bare client."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.bench.bubble import ATLAS, BOREAL, DESKTOP_PORT, Bubble
from sdbox.bench.lab_client import CLIENT_ADDRESS, BareClient, write_user
from sdbox.bench.lab_wireguard import WireGuardFailed, configure, peers
from sdbox.bench.network import CENTRE_ADDRESS, Network
from sdbox.qemu.child import ChildFailed, in_namespace
from sdbox.qemu.screen import shows_mostly

pytestmark = pytest.mark.root

CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def network(work: Path) -> Iterator[Network]:
    with Network(work, ["atlas", "boreal"]) as network:
        yield network


@pytest.fixture(scope="module")
def atlas(network: Network, work: Path) -> Iterator[Bubble]:
    with Bubble(ATLAS, network, work) as bubble:
        yield bubble


@pytest.fixture(scope="module")
def client(network: Network, atlas: Bubble, work: Path) -> Iterator[BareClient]:
    with BareClient(network, atlas, work) as client:
        yield client


def reaches(namespace: str, host: str, port: int) -> bool:
    command = in_namespace(namespace, ["python3", "-c", CONNECT, host, str(port), "0.5"])
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_bubble_s_desktop_arrives_through_the_tunnel(client: BareClient) -> None:
    seconds, picture = client.connect()
    assert shows_mostly(ATLAS.colour, share=0.9)(picture)
    assert not shows_mostly(BOREAL.colour, share=0.01)(picture)
    assert seconds < 10
    client.blank()


def test_the_desktop_is_reached_by_the_tunnel_only(network: Network, atlas: Bubble, client: BareClient) -> None:
    assert reaches(atlas.namespace, ATLAS.server, DESKTOP_PORT), "the probe itself must work"
    assert reaches(client.namespace, ATLAS.server, DESKTOP_PORT)
    assert not reaches(network.campus, ATLAS.server, DESKTOP_PORT)
    assert not reaches(network.centre, ATLAS.server, DESKTOP_PORT)
    assert not reaches(network.bubble("boreal"), ATLAS.server, DESKTOP_PORT)


def test_without_its_peer_the_tunnel_is_shut(atlas: Bubble, client: BareClient) -> None:
    assert len(peers(atlas.control_socket)) == 1
    configure(atlas.control_socket, [("replace_peers", "true")])
    assert peers(atlas.control_socket) == ()
    assert not reaches(client.namespace, ATLAS.server, DESKTOP_PORT)
    client.join()
    assert reaches(client.namespace, ATLAS.server, DESKTOP_PORT)


def test_a_login_that_was_taken_away_is_refused(atlas: Bubble, client: BareClient) -> None:
    write_user(atlas.sam_file, "bench", secrets.token_hex(16))
    try:
        with pytest.raises(ChildFailed, match=r"ERRCONNECT_(LOGON_FAILURE|AUTHENTICATION_FAILED)"):
            client.connect()
    finally:
        client.admit()
    client.connect()


def test_another_server_s_certificate_is_refused(client: BareClient) -> None:
    with pytest.raises(ChildFailed, match=r"(?i)certificate|TLS_CONNECT_FAILED"):
        client.connect(fingerprint="ab" * 32)


def test_a_malformed_configuration_is_refused_without_its_text(atlas: Bubble) -> None:
    with pytest.raises(WireGuardFailed) as caught:
        configure(atlas.control_socket, [("private_key", "secret-not-hex")])
    assert "secret" not in str(caught.value)


def test_the_campus_reaches_the_centre_and_back(network: Network, client: BareClient) -> None:
    listen = (
        f"import socket; s = socket.create_server(('{CENTRE_ADDRESS}', 443)); s.settimeout(5); print(s.accept()[1][0])"
    )
    server = in_namespace(network.centre, ["python3", "-u", "-c", listen])
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
        assert any(reaches(client.namespace, CENTRE_ADDRESS, 443) for _ in range(50))
        assert process.communicate(timeout=10)[0].strip() == CLIENT_ADDRESS, "no address translation on the way"
