"""``client_comms``, ``stream_comms``, ``listeners``: connections of the scheduler, as code beside it sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.comm import get_address_host_port, parse_address


class Stream:
    """A stream to a client or a worker: messages can be put into it, nothing else."""

    def __init__(self, send: Callable[[dict[str, Any]], Any], peer: str) -> None:
        self._send = send
        self._peer = peer

    def send(self, *msgs: dict[str, Any]) -> None:
        for msg in msgs:
            self._send(msg)

    def closed(self) -> bool:
        """A stream that has ended is not in the mapping any more."""
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"a stream of the scheduler has no {name!r} here, only 'send' and 'closed'")

    def __repr__(self) -> str:
        return f"<Stream to {self._peer}>"


class Service(int):
    """An HTTP server of the scheduler's process: its port."""

    @property
    def port(self) -> int:
        return int(self)


class Listener:
    """Where the scheduler listens."""

    def __init__(self, listen_address: str, contact_address: str) -> None:
        self.listen_address = listen_address
        self.contact_address = contact_address
        self.prefix = parse_address(listen_address)[0] + "://"
        self.ip, self.port = get_address_host_port(listen_address)

    def get_host_port(self) -> tuple[str, int]:
        return self.ip, self.port

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"a listener of the scheduler has no {name!r} here: it listens in its own process")

    def __repr__(self) -> str:
        return f"<Listener {self.listen_address!r}>"
