"""Sockets that the parent lends this process for one message, so that large values cross no process in between.

They come over the channel that Node keeps to a child (``NODE_CHANNEL_FD``): a JSON document a line, a
descriptor with it (``SCM_RIGHTS``), which is acknowledged before the next one comes. A forked child gets them from
the fork server, which passes them on.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

#: In a forked child: the descriptor of the socket to its fork server.
PASSED_FD = "DASK_TS_LENT_FD"
NODE_FD = "NODE_CHANNEL_FD"
NODE_MODE = "NODE_CHANNEL_SERIALIZATION_MODE"
ACKNOWLEDGED = b'{"cmd":"NODE_HANDLE_ACK"}\n'


def take_channel() -> tuple[socket.socket, bool] | None:
    """The channel of this process and whether to acknowledge; None where it has none.

    The variables are taken out of the environment: a Node process that a task starts must not find them.
    """
    passed = os.environ.pop(PASSED_FD, None)
    own = os.environ.pop(NODE_FD, None)
    os.environ.pop(NODE_MODE, None)
    number = passed if passed is not None else own
    if number is None:
        return None
    os.set_inheritable(int(number), False)
    channel = socket.socket(fileno=int(number))
    channel.setblocking(True)
    return channel, passed is None


class LentReader:
    """Reads descriptors off a channel; ``on_lent`` gets what came with each and the descriptor."""

    def __init__(self, channel: socket.socket, acknowledge: bool, on_lent: Callable[[dict[str, Any], int], None]):
        self.channel = channel
        self._acknowledge = acknowledge
        self._on_lent = on_lent
        self._rest = b""
        self._fds: list[int] = []

    def read(self) -> bool:
        """What is there now; False at the end."""
        data, fds, _, _ = socket.recv_fds(self.channel, 65536, 4)
        if not data:
            return False
        self._fds += fds
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message.get("cmd") != "NODE_HANDLE" or not self._fds:
                continue
            fd = self._fds.pop(0)
            os.set_inheritable(fd, False)
            if self._acknowledge:
                self.channel.sendall(ACKNOWLEDGED)
            self._on_lent(message["msg"], fd)
        return True


class LentSockets:
    """Of this process: each is asked for by its number, once."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._sockets: dict[int, socket.socket] = {}
        taken = take_channel()
        if taken is not None:
            reader = LentReader(*taken, self._put)
            threading.Thread(target=self._run, args=(reader,), name="dask-ts-lent", daemon=True).start()

    def _run(self, reader: LentReader) -> None:
        try:
            while reader.read():
                pass
        except OSError:
            pass

    def _put(self, message: dict[str, Any], fd: int) -> None:
        with self._arrived:
            self._sockets[message["lend"]] = socket.socket(fileno=fd)
            self._arrived.notify_all()

    def take(self, number: int, timeout: float) -> socket.socket:
        """The socket with this number, which the caller closes. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: number in self._sockets, timeout):
                raise TimeoutError(f"the lent socket {number} has not come")
            return self._sockets.pop(number)
