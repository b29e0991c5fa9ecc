"""Pods as processes: what a pod's specification says is run and asked, on a network interface of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from local_aws.network import TaskNetwork

ROOT = Path(__file__).resolve().parents[2]


class Pod:
    def __init__(self, address: str, namespace: str, container: dict[str, Any], process: subprocess.Popen):
        self.address = address
        self.namespace = namespace
        self.container = container
        self.process = process

    def passes(self, probe: str) -> bool:
        get = self.container[probe]["httpGet"]
        ports = {one.get("name"): one["containerPort"] for one in self.container["ports"]}
        url = f"http://{self.address}:{ports.get(get['port'], get['port'])}{get['path']}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                # As kubelet: redirects are followed, and everything below 400 is good.
                return answer.status < 400
        except (urllib.error.URLError, ConnectionError):
            return False


class Pods:
    """A namespace of Kubernetes: pods by name, and the names of services."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.network = TaskNetwork()
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.pods: dict[str, Pod] = {}

    def start(self, name: str, spec: dict[str, Any], service: str | None = None) -> Pod:
        """`spec` is a pod's; what selects it is `service`, a host name."""
        [container] = spec["containers"]
        address = self.network.next_address()
        namespace = self.network.add(address)
        if service is not None:
            # In place: pods have this very file mounted.
            with self.hosts.open("a") as file:
                file.write(f"{address} {service}\n")
        variables = {one["name"]: one["value"] for one in container.get("env") or []}
        expanded = [re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], arg) for arg in container["args"]]
        environment = {
            **{key: os.environ[key] for key in ("PATH", "DASK_TS_TEST")},
            "DASK_TS_PYTHON": sys.executable,
            "HOME": str(self.folder),
            **variables,
        }
        environment["PATH"] = f"{ROOT / 'bin'}:{environment['PATH']}"
        mount = f'mount --bind {self.hosts} /etc/hosts && exec "$@"'
        inside = ["ip", "netns", "exec", namespace, "unshare", "--mount", "sh", "-c", mount, "sh"]
        log = (self.folder / f"{name}.log").open("wb")
        process = subprocess.Popen([*inside, *expanded], env=environment, stdout=log, stderr=log, cwd=self.folder)
        self.pods[name] = Pod(address, namespace, container, process)
        return self.pods[name]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self, *names: str, seconds: float = 30) -> list[int]:
        """SIGTERM, and the exit codes."""
        pods = [self.pods.pop(name) for name in names]
        for pod in pods:
            pod.process.send_signal(signal.SIGTERM)
        codes = [pod.process.wait(seconds) for pod in pods]
        for pod in pods:
            self.network.remove(pod.namespace)
        return codes

    def close(self) -> None:
        for pod in self.pods.values():
            pod.process.kill()
            pod.process.wait()
        self.network.close()
