from __future__ import annotations

import json
import os
import socket
import threading
import time

import numpy as np
import pytest
from distributed.security import Security

from dask_ts import lent_sockets
from dask_ts.bridge import FrameReader, decode_message
from dask_ts.executor_store import close_value, is_tiny, open_value, travels_plain
from dask_ts.executor_transfer import PartlySent, PeerConnections, encode_plain, write_all


class Peer:
    """A worker that has `data`, as far as its `get_data` goes."""

    def __init__(self, data, replies=None):
        self.data = data
        self.replies = replies or []
        self.connections = 0
        self.acknowledged = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        messages = []
        reader = FrameReader(lambda frames: messages.append(decode_message(frames)))
        self.send(sock, {"compression": None, "python": (3, 10, 0), "pickle-protocol": 5})
        while reader.read(sock):
            while messages:
                self.answer(sock, messages.pop(0))

    def answer(self, sock, message):
        if message == "OK":
            self.acknowledged += 1
        elif message.get("op") == "get_data":
            if self.replies:
                reply = self.replies.pop(0)
            else:
                reply = {"status": "OK", "data": {k: close_value(self.data[k]) for k in message["keys"]}}
            if reply is None:
                sock.shutdown(socket.SHUT_RDWR)
            else:
                self.send(sock, reply)

    @staticmethod
    def send(sock, message):
        for view in encode_plain(message):
            sock.sendall(view)


def test_values_come_from_a_peer_and_its_connection_is_used_again():
    peer = Peer({"x": np.arange(1_000_000), ("y", 1): np.ones(10)})
    peers = PeerConnections(Security())
    for _ in range(2):
        reply = peers.get_data(peer.address, ["x", ("y", 1)], "me")
        np.testing.assert_array_equal(open_value(reply["data"]["x"]), np.arange(1_000_000))
        np.testing.assert_array_equal(open_value(reply["data"]["y", 1]), np.ones(10))
    assert peer.connections == 1
    deadline = time.monotonic() + 10
    while peer.acknowledged < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert peer.acknowledged == 2


def test_a_busy_peer_says_so_and_one_that_hangs_up_is_an_oserror():
    peer = Peer({"x": 1}, replies=[{"status": "busy"}, None])
    peers = PeerConnections(Security())
    assert peers.get_data(peer.address, ["x"], "me") == {"status": "busy"}
    with pytest.raises(OSError):
        peers.get_data(peer.address, ["x"], "me")
    assert peers.get_data(peer.address, ["x"], "me")["status"] == "OK"
    with pytest.raises(OSError):
        peers.get_data("tcp://127.0.0.1:1", ["x"], "me")


def test_a_transfer_ends_where_its_peer_is_forgotten():
    peer = Peer({}, replies=[])
    peer.answer = lambda sock, message: asked.set() if message != "OK" and "op" in message else None
    asked = threading.Event()
    peers = PeerConnections(Security())
    failures = []

    def fetch():
        try:
            peers.get_data(peer.address, ["x"], "me")
        except OSError as e:
            failures.append(e)

    thread = threading.Thread(target=fetch)
    thread.start()
    assert asked.wait(10)
    peers.forget(peer.address)
    thread.join(10)
    assert len(failures) == 1


def test_all_is_written_to_a_socket_that_does_not_block():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    payload = np.arange(2_000_000)
    messages = []
    reader = FrameReader(lambda frames: messages.append(decode_message(frames)))

    def read():
        while not messages and reader.read(theirs):
            pass

    thread = threading.Thread(target=read)
    thread.start()
    write_all(ours, encode_plain({"status": "OK", "data": {"x": close_value(payload)}}))
    thread.join(10)
    np.testing.assert_array_equal(open_value(messages[0]["data"]["x"]), payload)
    theirs.close()
    with pytest.raises(PartlySent):
        write_all(ours, encode_plain({"data": close_value(payload)}))


@pytest.mark.parametrize("passed", [True, False])
def test_sockets_are_lent_over_the_channel(monkeypatch, passed):
    ours, theirs = socket.socketpair()
    monkeypatch.setenv(lent_sockets.PASSED_FD if passed else lent_sockets.NODE_FD, str(theirs.detach()))
    lent = lent_sockets.LentSockets()
    assert lent_sockets.NODE_FD not in os.environ
    read, write = os.pipe()
    line = json.dumps({"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": {"lend": 7}}).encode()
    here, there = socket.socketpair()
    # a line may come in two pieces, the descriptor with the first
    socket.send_fds(ours, [line[:10]], [there.fileno()])
    ours.sendall(line[10:] + b"\n")
    with lent.take(7, 10) as sock:
        sock.sendall(b"hello")
    assert here.recv(5) == b"hello"
    if not passed:
        assert ours.recv(100) == lent_sockets.ACKNOWLEDGED
    with pytest.raises(TimeoutError):
        lent.take(8, 0.01)
    os.close(read)
    os.close(write)
    ours.close()


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**63), 2**64 - 1, 1.0, -0.0, float("inf"), "ä", b"x", (), (1, (2.5, "x"))]
)
def test_small_plain_values_travel_as_they_are(value):
    assert travels_plain(value)
    assert is_tiny(value) or isinstance(value, tuple)


@pytest.mark.parametrize(
    "value",
    [
        *(2**64, -(2**63) - 1, "\ud800", "x" * 1000, b"x" * 1000, [1], {"a": 1}, {1}, Text("x"), np.float64(1), 1j),
        *(((((1,),),),), (1,) * 100, (1, [2])),
    ],
)
def test_other_values_are_serialized(value):
    assert not travels_plain(value)
