"""Prints one line with the versions that must be equal in clients, scheduler and workers."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("dask", "distributed", "numpy", "pandas", "pyarrow", "msgpack", "cloudpickle", "lz4", "tornado")


def versions() -> str:
    found = [f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    print(f"prepare: {versions()}")
