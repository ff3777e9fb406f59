"""wireguard-go's control socket, as a fake at the wire: keeps peers, moves no packets."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Peers(dict[str, dict[str, str]]):
    """The peers by public key in hex. Fault: while it `clings`, no peer is removed and the caller is told so."""

    clings = False


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    peers: Peers


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        lines = []
        while line := self.rfile.readline().decode().strip():
            lines.append(line)
        if lines[:1] == ["get=1"]:
            self._get()
        else:
            self._set([tuple(line.split("=", 1)) for line in lines[1:]])  # type: ignore[misc]

    def _get(self) -> None:
        listed = "".join(
            f"public_key={public}\nallowed_ip={peer['allowed_ip']}\n" for public, peer in self.server.peers.items()
        )
        self.wfile.write(f"{listed}errno=0\n\n".encode())

    def _set(self, pairs: list[tuple[str, str]]) -> None:
        peers, current = self.server.peers, ""
        if peers.clings and ("remove", "true") in pairs:
            self.wfile.write(b"errno=5\n\n")  # EIO
            return
        for key, value in pairs:
            if key == "replace_peers":
                peers.clear()
            elif key == "public_key":
                current = value
                if not any(name == "update_only" for name, _ in pairs):
                    peers.setdefault(current, {})
            elif key == "remove":
                peers.pop(current, None)
            elif current in peers:
                peers[current][key] = value
        self.wfile.write(b"errno=0\n\n")


@contextmanager
def running_uapi(path: Path) -> Iterator[Peers]:
    """Listen on `path`; yields the live peers by public key in hex."""
    with _Server(str(path), _Handler) as server:
        server.peers = Peers()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.peers
        finally:
            server.shutdown()
            thread.join()
            path.unlink()
