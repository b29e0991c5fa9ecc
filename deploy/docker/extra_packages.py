"""Installs what EXTRA_CONDA_PACKAGES, EXTRA_PIP_PACKAGES and the files of /opt/app ask for.

The image has no conda: where a derived image brings one it is used, otherwise packages come from PyPI by the same name,
with the few that are named differently there translated. Prints the folder to put on PYTHONPATH where the environment
cannot be written (another user, a read-only file system).
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import yaml

APP = Path("/opt/app")
#: What conda-forge calls otherwise than PyPI.
PYPI_NAMES = {
    "blosc": "blosc",
    "python-blosc": "blosc",
    "dask-core": "dask",
    "graphviz": "",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "nomkl": "",
    "pip": "",
    "pytables": "tables",
    "python": "",
    "python-graphviz": "graphviz",
    "python-xxhash": "xxhash",
    "pytorch": "torch",
    "tini": "",
}


def from_conda(spec: str) -> str:
    """PyPI's form of `channel::name=1.2=build`, `name 1.2.*`, `name>=1`; empty for what is there or cannot be."""
    match = re.fullmatch(r"(?:[\w.-]+::)?([\w.-]+)(?:\[[^]]*\])?\s*(.*)", spec.strip())
    if match is None:
        raise SystemExit(f"prepare: cannot read the package {spec!r}")
    name, constraint = PYPI_NAMES.get(match[1].lower(), match[1]), match[2].strip()
    if not name or not constraint:
        return name
    if constraint.startswith("="):
        exact = constraint.startswith("==")
        version = constraint.lstrip("=").split("=")[0].rstrip("*").rstrip(".")
        return f"{name}=={version}" if exact else f"{name}=={version}.*"
    if constraint[0].isdigit():
        return f"{name}=={constraint.split()[0].split('=')[0]}"
    return name + constraint.replace(" ", "")


def environment_file(path: Path) -> list[str]:
    """The requirements of an environment.yml, for pip."""
    wanted: list[str] = []
    for entry in (yaml.safe_load(path.read_text()) or {}).get("dependencies") or []:
        if isinstance(entry, dict):
            wanted += [str(one) for one in entry.get("pip") or []]
        else:
            wanted.append(from_conda(str(entry)))
    return wanted


def run(*command: str) -> None:
    print(f"prepare: {shlex.join(command)}", file=sys.stderr, flush=True)
    if subprocess.call(command, stdout=sys.stderr) != 0:
        raise SystemExit(1)


def main() -> None:
    environment, requirements = APP / "environment.yml", APP / "requirements.txt"
    conda_packages = shlex.split(os.environ.get("EXTRA_CONDA_PACKAGES", ""))
    wanted: list[str] = []
    conda = next(filter(None, map(shutil.which, ("mamba", "micromamba", "conda"))), None)
    if conda is not None:
        if environment.exists():
            run(conda, "env", "update", "--yes", "--prefix", sys.prefix, "--file", str(environment))
        if conda_packages:
            run(conda, "install", "--yes", "--prefix", sys.prefix, *conda_packages)
    else:
        if environment.exists():
            wanted += environment_file(environment)
        # Options like `-c conda-forge` say where conda looks.
        channel = False
        for word in conda_packages:
            if not channel and not word.startswith("-"):
                wanted.append(from_conda(word))
            channel = word in ("-c", "--channel")
    if requirements.exists():
        wanted += ["-r", str(requirements)]
    wanted += shlex.split(os.environ.get("EXTRA_PIP_PACKAGES", ""))
    wanted = [one for one in wanted if one]
    if not wanted:
        return
    target: list[str] = []
    if not os.access(sysconfig.get_path("purelib"), os.W_OK):
        target = ["--target", tempfile.mkdtemp(prefix="dask-packages-")]
    options = ["--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "install", *options, *target, *wanted)
    if target:
        print(target[1])


if __name__ == "__main__":
    main()
