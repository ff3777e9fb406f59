"""The bytes of the X keep-alive client (X11R7.7 protocol, appendix B)."""

from __future__ import annotations

import pytest

from sdbox.agent.screen import x11


def test_the_connection_asks_for_version_11_without_authorisation() -> None:
    assert bytes.fromhex("6c00 0b00 0000 0000 0000 0000") == x11.SETUP


def test_one_user_is_let_in() -> None:
    request = x11.allow_user("sdbox-rdp")
    assert request[:8] == bytes.fromhex("6d00 0700 0500 1300")
    assert request[8:] == b"localuser\0sdbox-rdp\0"
    assert len(request) == 4 * request[2]


def test_the_length_of_the_setup_answer() -> None:
    assert x11.setup_length(bytes.fromhex("0100 0b00 0000 1c01")) == 0x11C * 4


@pytest.mark.parametrize("status", [0, 2])
def test_a_server_that_refuses_is_an_error(status: int) -> None:
    with pytest.raises(ConnectionError):
        x11.setup_length(bytes([status]) + bytes(7))


def test_only_local_displays() -> None:
    assert x11.socket_path(":1") == "/tmp/.X11-unix/X1"
    for other in ("host:0", ":", ":0.0", ""):
        with pytest.raises(ValueError, match="local"):
            x11.socket_path(other)
