"""The child's end of the bridge: codec and framing. Processes are tested from the other side."""

from __future__ import annotations

import pickle
import random
import socket
import threading

import numpy as np
import pytest
from distributed.protocol.serialize import Pickled, Serialized, ToPickle, to_serialize
from distributed.protocol.utils import merge_memoryviews

from dask_ts.bridge import LARGE, Bridge, Encoder, FrameReader, decode_message, encode_message, pack_frames


class Pieces:
    """A socket that gives its bytes in pieces."""

    def __init__(self, data: bytes, sizes) -> None:
        self.data, self.at, self.sizes = data, 0, sizes

    def recv_into(self, buffer, nbytes=0, flags=0) -> int:
        n = min(next(self.sizes), len(buffer), len(self.data) - self.at)
        buffer[:n] = self.data[self.at : self.at + n]
        self.at += n
        return n


def pieces(rng, mode):
    while True:
        yield {"bytes": 1, "whole": 1 << 30, "random": rng.randint(1, 200_000)}[mode]


@pytest.mark.parametrize("mode", ["bytes", "whole", "random"])
@pytest.mark.parametrize("seed", range(4))
def test_messages_come_out_of_any_cut(mode, seed):
    rng = random.Random(seed)
    big = 300 if mode == "bytes" else 400_000
    sizes = [0, 1, 100, 5000] if mode == "bytes" else [0, 1, 100, LARGE - 1, LARGE, LARGE + 1, big]
    messages = [[rng.randbytes(rng.choice(sizes)) for _ in range(rng.choice([1, 2, 5, 50]))] for _ in range(6)]
    data = b"".join(bytes(view) for m in messages for view in pack_frames(m))
    got: list = []
    reader = FrameReader(lambda frames: got.append([bytes(f) for f in frames]))
    sock = Pieces(data, pieces(rng, mode))
    while reader.read(sock):  # type: ignore[arg-type]
        pass
    assert got == messages


def test_frames_of_any_shape():
    """Out-of-band buffers of arrays: without items, in columns, not contiguous."""
    arrays = [np.zeros((0, 3)), np.arange(6).reshape(2, 3, order="F"), np.arange(10)[::2], np.array(1.5)]
    frames = [memoryview(a) for a in arrays] + [pickle.PickleBuffer(np.zeros((3, 0)))]
    got: list = []
    reader = FrameReader(lambda f: got.append([len(x) for x in f]))
    sock = Pieces(b"".join(map(bytes, pack_frames(frames))), pieces(random, "whole"))
    while reader.read(sock):  # type: ignore[arg-type]
        pass
    assert got == [[0, 48, 40, 8, 0]]


def test_a_prelude_larger_than_the_scratch_buffer():
    frames = [b"x"] * 100_000
    got: list = []
    reader = FrameReader(lambda f: got.append(len(f)))
    sock = Pieces(b"".join(map(bytes, pack_frames(frames))), pieces(random, "whole"))
    while reader.read(sock):  # type: ignore[arg-type]
        pass
    assert got == [100_000]


def test_values_and_sub_messages():
    array = np.arange(10)
    out = encode_message(
        [
            {"op": "a", "key": ("x", 0), "set": {1, 2}, "n": np.int64(3), "f": np.float32(0.5)},
            {"op": "b", "data": to_serialize(b"abc"), "pickle": ToPickle(array), "tuple": {(1, 2): 3}},
        ]
    )
    first, second = decode_message([memoryview(bytes(f)) for f in out])
    assert first == {"op": "a", "key": ("x", 0), "set": {1, 2}, "n": 3, "f": 0.5}
    assert isinstance(second["data"], Serialized) and isinstance(second["pickle"], Pickled)
    assert second["tuple"] == {(1, 2): 3}
    # closed ones go out again as they came
    again = encode_message([second])
    assert [bytes(f) for f in again[1:]] == [bytes(f) for f in out[1:]]


def test_a_message_that_cannot_be_encoded_leaves_no_trace():
    encoder = Encoder()
    encoder.add({"op": "first", "x": to_serialize(b"1")})
    with pytest.raises(TypeError):
        encoder.add({"op": "bad", "x": to_serialize(b"2"), "y": object()})
    encoder.add({"op": "last", "x": to_serialize(b"3")})
    messages = decode_message([memoryview(bytes(f)) for f in encoder.take()])
    assert [bytes(m["x"].frames[0]) for m in messages] == [b"1", b"3"]
    assert encoder.take()[0] == b"\x90"


def test_writers_in_threads_and_a_slow_reader():
    ours, theirs = socket.socketpair()
    bridge = Bridge(ours, lambda message: None)
    threads = [
        threading.Thread(target=bridge.send, args=({"op": "x", "i": i, "pad": b"p" * 200_000},)) for i in range(20)
    ]
    for thread in threads:
        thread.start()
    got: list = []
    reader = FrameReader(lambda frames: got.extend(m["i"] for m in decode_message(frames)))
    while len(got) < 20:
        assert reader.read(theirs)
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(20))
    bridge.close()
    theirs.close()


def test_the_shards_of_a_buffer_are_received_into_one(monkeypatch):
    monkeypatch.setattr("dask_ts.bridge.SHARD", 2**20)
    shard = bytes(range(256)) * 2**12
    frames = [b"head", shard, shard, b"rest", b"other" * LARGE]
    received: list = []
    reader = FrameReader(received.append)
    here, there = socket.socketpair()
    data = b"".join(pack_frames(frames))
    thread = threading.Thread(target=here.sendall, args=(data,))
    thread.start()
    while not received:
        assert reader.read(there)
    thread.join()
    assert [bytes(frame) for frame in received[0]] == frames
    merged = merge_memoryviews(received[0][1:4])
    assert bytes(merged) == shard + shard + b"rest"
