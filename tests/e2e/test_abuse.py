"""Bad peers: what they send reaches nobody else, and the log tells."""

from __future__ import annotations

import operator
import socket
import struct

import numpy as np
import pytest

from cluster import wait_until

ABUSE = {
    "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4,
    "random": np.random.default_rng(1).bytes(5000),
    "a billion frames": struct.pack("<QQ", 16, 10**9) + b"\0" * 64,
    "an exabyte frame": struct.pack("<QQQ", 24, 1, 2**60) + b"\0" * 64,
    "no msgpack": struct.pack("<QQQ", 28, 1, 4) + b"\xc1\xc1\xc1\xc1",
}


@pytest.mark.parametrize("what", ABUSE)
@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_bad_bytes_on_the_port(cluster, client, what, role):
    address = cluster.address if role == "scheduler" else next(iter(client.scheduler_info()["workers"]))
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(ABUSE[what])
        raw.settimeout(15)
        try:
            while raw.recv(65536):
                pass
        except ConnectionResetError:
            pass  # closed by the other side, the hard way
    assert client.gather(client.map(operator.neg, range(20))) == [-i for i in range(20)]
    process = cluster.scheduler if role == "scheduler" else cluster.worker_at(address)
    wait_until(lambda: "refused" in process.text or "closed: ProtocolError" in process.text, "a log line tells it")


def test_an_unknown_op_is_answered(cluster, client):
    with pytest.raises(Exception, match="no_such_op"):
        client.sync(client.scheduler.no_such_op)
    assert client.submit(operator.neg, 1).result(timeout=10) == -1
