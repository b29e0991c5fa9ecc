"""Large values between this process and the socket of a peer, past the worker process.

Fetched over connections of this process's own, which look to the peer like any worker's; sent over the socket
on which a peer has asked the worker process (``lent_sockets``). So a value is copied into the kernel and out
of it, as between stock workers, and a thread that waits for it holds no lock and no GIL.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import select
import socket
import sys
import threading
from collections import deque
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.security import Security

from dask_ts.bridge import IOV_MAX, Encoder, FrameReader, decode_message, drop_sent, pack_frames

logger = logging.getLogger("distributed.worker")

#: Seconds that the peer may take nothing of what is sent.
SEND_TIMEOUT = 300.0
#: Connections to a peer that wait for the next fetch.
MOST_IDLE = 4
#: Bytes of one system call: between two of them the reader, on the other core, takes what is still in the cache.
PIECE = 2**20


def encode_plain(message: Any) -> list[memoryview]:
    """One message as peers send it, ready to be written."""
    encoder = Encoder()
    encoder.add(message)
    return pack_frames([encoder.documents[0], *encoder.frames])


class PeerConnection:
    """A connection to a worker, handshake done."""

    def __init__(self, address: str, security: Security) -> None:
        scheme, location = parse_address(address)
        host, port = parse_host_port(location)
        timeout = parse_timedelta(dask.config.get("distributed.comm.timeouts.connect"), default="seconds")
        sock: socket.socket = socket.create_connection((host, port), timeout)
        try:
            if scheme == "tls":
                arguments = security.get_connection_args("worker")
                sock = arguments["ssl_context"].wrap_socket(sock, server_hostname=host)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _end_with_silence(sock)
            self._messages: deque[Any] = deque()
            self._reader = FrameReader(lambda frames: self._messages.append(decode_message(frames)))
            self.sock = sock
            local = sock.getsockname()[0] == sock.getpeername()[0]
            self.send(
                {
                    "compression": None if local else dask.config.get("distributed.comm.compression") or None,
                    "python": tuple(sys.version_info)[:3],
                    "pickle-protocol": pickle.HIGHEST_PROTOCOL,
                }
            )
            self.receive()
            sock.settimeout(None)
            # a plain socket waits for a whole frame in one call, in which other threads have the GIL
            self._reader.wait_for_all = scheme == "tcp"
        except BaseException:
            sock.close()
            raise

    def send(self, message: Any) -> None:
        for view in encode_plain(message):
            self.sock.sendall(view)

    def receive(self) -> Any:
        while not self._messages:
            if not self._reader.read(self.sock):
                raise ConnectionResetError("the peer closed the connection")
        return self._messages.popleft()

    def is_idle(self) -> bool:
        """Nothing to read: what a peer says unasked is its end."""
        return not self._messages and not select.select([self.sock], [], [], 0)[0]


def _end_with_silence(sock: socket.socket) -> None:
    """A host that is gone is found out by the kernel, after ``distributed.comm.timeouts.tcp``."""
    timeout = parse_timedelta(dask.config.get("distributed.comm.timeouts.tcp"), default="seconds")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", max(1, int(timeout / 4))),
        ("TCP_KEEPINTVL", max(1, int(timeout / 8))),
        ("TCP_KEEPCNT", 6),
        ("TCP_USER_TIMEOUT", int(timeout * 1000)),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class PeerConnections:
    """Connections of this process to other workers. Every method may be called from any thread."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self._lock = threading.Lock()
        self._idle: dict[str, list[PeerConnection]] = {}
        self._taken: dict[str, set[PeerConnection]] = {}

    def get_data(self, address: str, keys: Any, who: str) -> dict[str, Any]:
        """A peer's reply to ``get_data``, its values closed; OSError where it cannot be reached or goes away."""
        connection = self._take(address)
        try:
            connection.send({"op": "get_data", "reply": True, "keys": list(keys), "who": who})
            reply: dict[str, Any] = connection.receive()
            if reply.get("status") == "OK":
                connection.send("OK")
        except BaseException:
            self._release(address, connection, reusable=False)
            raise
        self._release(address, connection, reusable=True)
        return reply

    def forget(self, address: str) -> None:
        """Breaks the connections to a worker that is gone."""
        with self._lock:
            connections = [*self._idle.pop(address, ()), *self._taken.get(address, ())]
        for connection in connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _take(self, address: str) -> PeerConnection:
        while True:
            with self._lock:
                idle = self._idle.get(address)
                connection = idle.pop() if idle else None
            if connection is None:
                connection = PeerConnection(address, self._security)
            elif not connection.is_idle():
                connection.sock.close()
                continue
            with self._lock:
                self._taken.setdefault(address, set()).add(connection)
            return connection

    def _release(self, address: str, connection: PeerConnection, reusable: bool) -> None:
        with self._lock:
            taken = self._taken[address]
            taken.discard(connection)
            if not taken:
                del self._taken[address]
            idle = self._idle.setdefault(address, [])
            if reusable and len(idle) < MOST_IDLE:
                idle.append(connection)
                return
        connection.sock.close()


class PartlySent(ConnectionError):
    """The message ended in the middle: the connection is of no use any more."""


def first_piece(queue: deque[memoryview]) -> list[memoryview]:
    """What the next call writes: no more than ``PIECE`` bytes."""
    piece: list[memoryview] = []
    room = PIECE
    for view in itertools.islice(queue, IOV_MAX):
        piece.append(view[:room])
        room -= len(view)
        if room <= 0:
            break
    return piece


def write_all(sock: socket.socket, views: list[memoryview]) -> None:
    """Writes to a socket that does not block, which it has in common with the worker process."""
    queue = deque(views)
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    try:
        while queue:
            try:
                sent = sock.sendmsg(first_piece(queue), [], socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                if not poll.poll(SEND_TIMEOUT * 1000):
                    raise TimeoutError(f"the peer took nothing for {SEND_TIMEOUT:.0f} s") from None
                continue
            drop_sent(queue, sent)
            while queue and not len(queue[0]):
                queue.popleft()
    except OSError as e:
        raise PartlySent(str(e)) from e
