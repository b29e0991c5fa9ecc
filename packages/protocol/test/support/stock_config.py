"""What stock dask makes of the cases given as JSON on stdin; answers as JSON on stdout."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import dask.config
import distributed.config
import yaml
from dask.utils import format_bytes, parse_bytes, parse_timedelta
from distributed.utils import parse_ports


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k if isinstance(k, str) else json.dumps(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"bare": str(value)}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return {"other": repr(value)}


def attempt(function: Any, *args: Any) -> Any:
    try:
        return {"value": plain(function(*args))}
    except Exception as e:
        return {"error": type(e).__name__}


def defaults() -> list[dict]:
    return [
        yaml.safe_load((Path(module.__file__).parent / name).read_text())
        for module, name in [(dask, "dask.yaml"), (distributed, "distributed.yaml")]
    ]


def load(files: list[str], env: dict[str, str]) -> Any:
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        paths = []
        for i, text in enumerate(files):
            path = Path(folder) / f"{i}.yaml"
            path.write_text(text)
            paths.append(str(path))
        config: dict = {}
        dask.config.refresh(config=config, defaults=defaults(), paths=paths, env=env)
        return {"config": plain(config), "warnings": len(caught)}


def main() -> None:
    cases = json.load(sys.stdin)
    out = {
        "literals": [plain(dask.config.interpret_value(t)) for t in cases["literals"]],
        "timedeltas": [attempt(parse_timedelta, *c) for c in cases["timedeltas"]],
        "bytes": [attempt(parse_bytes, c) for c in cases["bytes"]],
        "format_bytes": [format_bytes(c) for c in cases["format_bytes"]],
        "ports": [attempt(parse_ports, c) for c in cases["ports"]],
        "loads": [attempt(load, c["files"], c["env"]) for c in cases["loads"]],
        "serialized": dask.config.serialize(dask.config.get("distributed")),
        "deserialized": [plain(dask.config.deserialize(t)) for t in cases["serialized"]],
    }
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
