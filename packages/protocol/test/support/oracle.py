"""Answers the tests' questions with stock Dask: one JSON request per line in, one JSON answer per line out."""

from __future__ import annotations

import json
import struct
import sys
from typing import Any


def to_python(tagged: Any) -> Any:
    """Tagged JSON (see oracle.ts) → value; arrays become tuples, as they do on the wire."""
    tag = tagged[0]
    arg = tagged[1] if len(tagged) > 1 else None
    if tag == "none":
        return None
    if tag == "bool":
        return arg
    if tag == "int":
        return int(arg)
    if tag == "float":
        return struct.unpack(">d", bytes.fromhex(arg))[0]
    if tag == "str":
        return arg
    if tag == "bytes":
        return bytes.fromhex(arg)
    if tag == "tuple":
        return tuple(map(to_python, arg))
    if tag == "set":
        return set(map(to_python, arg))
    if tag == "dict":
        return {to_python(k): to_python(v) for k, v in arg}
    from distributed.protocol.serialize import Serialize, ToPickle

    if tag == "serialize":
        return Serialize(to_python(arg))
    if tag == "to-pickle":
        return ToPickle(to_python(arg))
    raise ValueError(tag)


def to_tagged(value: Any) -> Any:
    if value is None:
        return ["none"]
    if isinstance(value, bool):
        return ["bool", value]
    if isinstance(value, int):
        return ["int", str(value)]
    if isinstance(value, float):
        return ["float", struct.pack(">d", value).hex()]
    if isinstance(value, str):
        return ["str", value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, (tuple, list)):
        return ["tuple", [to_tagged(v) for v in value]]
    if isinstance(value, (set, frozenset)):
        return ["set", [to_tagged(v) for v in value]]
    if isinstance(value, dict):
        return ["dict", [[to_tagged(k), to_tagged(v)] for k, v in value.items()]]
    from distributed.protocol.serialize import Serialize, ToPickle

    if isinstance(value, Serialize):
        return ["serialize", to_tagged(value.data)]
    if isinstance(value, ToPickle):
        return ["to-pickle", to_tagged(value.data)]
    raise TypeError(type(value))


def key_split(keys: list[Any]) -> Any:
    from dask.utils import key_split as split
    from distributed.utils import key_split_group

    def group(key: Any) -> Any:
        try:
            return to_tagged(key_split_group(key))
        except Exception:
            return to_tagged("Other")

    def prefix(key: Any) -> str:
        try:
            return split(key)
        except Exception:
            return "Other"

    return [[prefix(key), group(key)] for key in map(to_python, keys)]


def pickles(items: list[str]) -> Any:
    import pickle

    return [to_tagged(pickle.loads(bytes.fromhex(item))) for item in items]


def exceptions(items: list[str]) -> Any:
    """What a client sees of each pickled exception."""
    import pickle

    out = []
    for item in items:
        error = pickle.loads(bytes.fromhex(item))
        assert isinstance(error, BaseException)
        again = pickle.loads(pickle.dumps(error))
        out.append(
            {
                "type": f"{type(error).__module__}.{type(error).__qualname__}",
                "str": str(error),
                "repr": repr(error),
                "again": repr(again),
            }
        )
    return out


def stock_exceptions(_: Any) -> Any:
    """The scheduler's own exceptions, made by stock from the same arguments as in exceptions.test.ts."""
    from distributed.core import Status
    from distributed.scheduler import (
        KilledWorker,
        NoValidWorkerError,
        NoWorkerError,
        WorkerState,
    )

    ws = WorkerState(
        address="tcp://10.0.0.1:4321",
        status=Status.closed,
        pid=42,
        name="w-0",
        nthreads=2,
        memory_limit=2**33,
        local_directory="/tmp/x",
        nanny="tcp://10.0.0.1:4322",
        server_id="Worker-1",
        services={"dashboard": 8787},
    )
    errors = [
        KilledWorker(("x-1", 2), ws, 3),
        NoWorkerError("x-1", 1.0),
        NoValidWorkerError("x-1", {"h"}, None, {"GPU": 1.5}, 0.5),
        NoValidWorkerError("x-1", None, {"tcp://a:1"}, None, 90.0),
    ]
    return [[str(e), repr(e)] for e in errors]


def killed_worker(item: str) -> Any:
    import pickle

    error = pickle.loads(bytes.fromhex(item))
    ws = error.last_worker
    fields = "address name pid nthreads memory_limit local_directory nanny server_id"
    return {
        "task": to_tagged(error.task),
        "allowed": error.allowed_failures,
        "status": ws.status.name,
        "hashable": isinstance(hash(ws), int),
        "services": ws.services,
        **{f: getattr(ws, f) for f in fields.split()},
    }


def error_message(frames: list[str]) -> Any:
    """distributed reads an error message as a client does."""
    from distributed.core import clean_exception

    message = loads_frames(frames)
    typ, error, tb = clean_exception(**message)
    return [typ.__name__, str(error), tb is None, sorted(message)]


def reprs(values: list[Any]) -> Any:
    return [repr(to_python(v)) for v in values]


def compress(items: list[list[str]]) -> Any:
    from distributed.protocol.compression import compressions

    return [bytes(compressions[n].compress(bytes.fromhex(d))).hex() for n, d in items]


def decompress(items: list[list[str]]) -> Any:
    from distributed.protocol.compression import compressions

    return [bytes(compressions[n].decompress(bytes.fromhex(d))).hex() for n, d in items]


def loads_frames(frames: list[str], deserialize: bool = True) -> Any:
    from distributed.protocol.core import loads

    return loads([bytes.fromhex(f) for f in frames], deserialize=deserialize)


def dumps_frames(message: Any, context: Any = None) -> list[str]:
    from distributed.protocol.core import dumps

    return [bytes(f).hex() for f in dumps(message, context=context)]


def loads(messages: list[list[str]]) -> Any:
    return [to_tagged(loads_frames(frames)) for frames in messages]


def dumps(items: list[Any]) -> Any:
    """items: [tagged value, compression or null]"""
    return [dumps_frames(to_python(value), {"compression": compression}) for value, compression in items]


def forwarded(_: Any) -> Any:
    """Messages with everything that Python may put into them; see `same_as_forwarded`."""
    return [dumps_frames(message) for message in _messages()]


def same_as_forwarded(answers: list[list[str]]) -> Any:
    """True for each message that is still the one that `forwarded` gave."""
    return [
        repr(loads_frames(frames)) == repr(loads_frames(dumps_frames(message)))
        for frames, message in zip(answers, _messages(), strict=True)
    ]


def _messages() -> list[Any]:
    from collections import deque
    from datetime import datetime

    from dask.typing import no_default
    from distributed.protocol.serialize import Serialize, ToPickle

    big = bytes(range(256)) * 300
    return [
        {"op": "x", "value": complex(1, 2)},
        {"op": "x", "a": Serialize(b"1"), "b": frozenset([1, 2]), "c": Serialize([b"2", b"3"])},
        [{"op": "x", "data": {("k", 1): Serialize({"a": 1, "b": [b"x", big]})}}],
        {"value": ToPickle(bytearray(big)), "default": no_default, "when": datetime(2026, 1, 1)},
        {"queue": deque([1, 2]), "set": {("a", 1), "b"}, "nested": [{"x": ToPickle(ValueError("e"))}]},
        [Serialize((1, "a")), [Serialize({b"k"}), [ToPickle(len)]]],
        {"empty": Serialize(b""), "none": Serialize(None), "zero": Serialize([])},
    ]


OPS = {
    op.__name__: op
    for op in (
        key_split,
        pickles,
        exceptions,
        stock_exceptions,
        killed_worker,
        error_message,
        reprs,
        compress,
        decompress,
        loads,
        dumps,
        forwarded,
        same_as_forwarded,
    )
}


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": OPS[request["op"]](request["arg"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
