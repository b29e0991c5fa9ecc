"""Prints what the image holds as a CycloneDX 1.5 document: Debian, Node and Python packages as they are installed."""

import json
import subprocess
from importlib.metadata import distributions
from pathlib import Path

PRODUCT = Path("/opt/dask-ts")


def component(kind: str, name: str, version: str, purl: str) -> dict[str, str]:
    return {"type": kind, "name": name, "version": version, "purl": purl}


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def debian() -> list[dict[str, str]]:
    listing = output("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\n")
    rows = [line.split(" ") for line in listing.splitlines()]
    return [component("library", n, v, f"pkg:deb/debian/{n}@{v}?arch={a}") for n, v, a in rows]


def node() -> list[dict[str, str]]:
    version = output("node", "--version").strip()[1:]
    found = {("node", version): component("application", "node", version, f"pkg:generic/node@{version}")}
    for manifest in PRODUCT.glob("node_modules/.pnpm/*/node_modules/**/package.json"):
        # A package is a folder of node_modules, or of a scope in it; deeper manifests are parts of packages.
        folder = manifest.parent
        scope = folder.parent.name if folder.parent.name.startswith("@") else None
        if (folder.parent.parent if scope else folder.parent).name != "node_modules":
            continue
        data = json.loads(manifest.read_text())
        name, release = data["name"], data["version"]
        found[name, release] = component("library", name, release, f"pkg:npm/{name.replace('@', '%40')}@{release}")
    return list(found.values())


def python() -> list[dict[str, str]]:
    return [component("library", d.name, d.version, f"pkg:pypi/{d.name.lower()}@{d.version}") for d in distributions()]


def main() -> None:
    components = sorted([*debian(), *node(), *python()], key=lambda one: one["purl"])
    release = json.loads((PRODUCT / "packages/cli/package.json").read_text())["version"]
    print(
        json.dumps(
            {
                "bomFormat": "CycloneDX",
                "specVersion": "1.5",
                "version": 1,
                "metadata": {"component": component("container", "dask-ts", release, f"pkg:generic/dask-ts@{release}")},
                "components": components,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
