"""
What ECS does with services and tasks, on moto's records: keeps each service at its number of tasks, starts a task's
real command as a process on a network interface of its own, stops it with SIGTERM and, after its grace, SIGKILL,
registers it under its Cloud Map name, and writes its output to its log stream.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ecs import models as ecs
from moto.logs.models import logs_backends
from moto.moto_api import state_manager
from moto.servicediscovery.models import servicediscovery_backends

from local_aws.network import TaskNetwork

ROOT = Path(__file__).resolve().parents[3]
INTERVAL = 0.05
HEALTH_INTERVAL = 0.5
DEFAULT_STOP_TIMEOUT = 30


class RunningTask:
    """The processes of one task."""

    def __init__(self, task: Any, definition: Any, address: str, namespace: str):
        self.task = task
        self.definition = definition
        self.address = address
        self.namespace = namespace
        self.processes: dict[str, subprocess.Popen] = {}
        self.stopping_since: float | None = None
        self.registered: list[tuple[Any, str, str]] = []
        self.health_after = 0.0
        self.health: subprocess.Popen | None = None

    @property
    def stop_timeout(self) -> int:
        return max(one.get("stopTimeout", DEFAULT_STOP_TIMEOUT) for one in self.definition.container_definitions)


class Runner:
    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        # What every container has, and an image would: commands on the PATH, credentials.
        self.environment = environment
        self.network = TaskNetwork()
        self.hosts = folder / "hosts"
        self.resolv = folder / "resolv.conf"
        # A name that is not in the table fails at once.
        self.resolv.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.running: dict[str, RunningTask] = {}
        self.made: list[str] = []
        self.write_hosts()
        self.stopped = threading.Event()
        self.lock = threading.RLock()
        self.install()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    # ------------------------------------------------------------------ moto's parts that stand in the way

    def install(self) -> None:
        """Tasks get addresses of this network and start as PENDING; stopping them is the runner's work."""
        # Moto's tasks would change their state by themselves, at each look.
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": 10**9})
        ecs.random_private_ip = self.network.next_address
        start = ecs.Task.__init__
        runner = self

        def init(task: Any, *args: Any, **kwargs: Any) -> None:
            start(task, *args, **kwargs)
            task.last_status = "PROVISIONING"
            task.containers = []
            runner.give_public_address(task)

        def stop_task(backend: Any, cluster_str: str, task_str: str, reason: str) -> Any:
            cluster = backend._get_cluster(cluster_str)
            name = task_str.split("/")[-1]
            task = next(one for one in backend.tasks[cluster.name].values() if one.id == name)
            task.desired_status = "STOPPED"
            task.stopped_reason = task.stopped_reason or reason or "Task stopped by user"
            return task

        update = ecs.EC2ContainerServiceBackend.update_service

        def update_service(backend: Any, properties: dict[str, Any]) -> Any:
            service = update(backend, properties)
            with runner.lock:
                runner.count(backend, service)
            return service

        # Moto wants each container to have a limit of its own, where AWS is content with the task's.
        needs = {"CPU": 0, "MEMORY": 0, "PORTS": [], "PORTS_UDP": []}
        ecs.EC2ContainerServiceBackend._calculate_task_resource_requirements = staticmethod(lambda _: needs)
        # Moto sets it only where the VPC has names for hosts, and reads it everywhere.
        NetworkInterface.private_dns_name = ""
        list_tasks = ecs.EC2ContainerServiceBackend.list_tasks

        def list_of_service(backend: Any, cluster: Any, *args: Any) -> list[Any]:
            # The fifth of them is the service, which moto passes over; the cluster's name it only looks for inside.
            found = [one for one in list_tasks(backend, None, *args) if one.cluster_name == cluster.split("/")[-1]]
            service = args[3].split("/")[-1] if len(args) > 3 and args[3] else None
            return [one for one in found if service is None or one.group == f"service:{service}"]

        ecs.EC2ContainerServiceBackend.list_tasks = list_of_service
        ecs.Task.__init__ = init
        ecs.EC2ContainerServiceBackend.stop_task = stop_task
        ecs.EC2ContainerServiceBackend.update_service = update_service

    @staticmethod
    def give_public_address(task: Any) -> None:
        configuration = getattr(task, "network_configuration", None)
        if configuration and configuration["awsvpcConfiguration"].get("assignPublicIp") == "ENABLED":
            interface = ec2_backends[task._account_id][task.region_name].enis[eni_of(task, "networkInterfaceId")]
            interface.public_ip = interface.private_ip_address

    # ------------------------------------------------------------------ the loop

    def start(self) -> None:
        self.thread.start()

    def loop(self) -> None:
        while not self.stopped.wait(INTERVAL):
            try:
                with self.lock:
                    self.step()
            except Exception:
                traceback.print_exc()

    def close(self) -> None:
        self.stopped.set()
        if self.thread.is_alive():
            self.thread.join()
        for running in self.running.values():
            for process in running.processes.values():
                kill(process, signal.SIGKILL)
        self.network.close()
        for target in self.made:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(target)

    def step(self) -> None:
        for backend in backends():
            for service in list(backend.services.values()):
                self.keep(backend, service)
            for cluster in list(backend.tasks):
                for task in list(backend.tasks[cluster].values()):
                    try:
                        self.advance(backend, task)
                    except Exception:
                        # What is wrong with one task must not hold up the others.
                        traceback.print_exc()
            for service in list(backend.services.values()):
                self.count(backend, service)
            self.count_clusters(backend)

    # ------------------------------------------------------------------ services

    def keep(self, backend: Any, service: Any) -> None:
        """Starts and stops tasks so that a service has its number, of its newest definition."""
        tasks = tasks_of(backend, service)
        wanted = service.desired_count if service.status == "ACTIVE" else 0
        definition = backend.describe_task_definition(service.task_definition).arn if wanted else ""
        new = [task for task in tasks if task.task_definition_arn == definition]
        old = [task for task in tasks if task.task_definition_arn != definition]
        limits = getattr(service, "deployment_configuration", {})
        most = wanted * int(limits.get("maximumPercent", 200)) // 100
        least = -(-wanted * int(limits.get("minimumHealthyPercent", 100)) // 100)
        healthy = [task for task in tasks if task.last_status == "RUNNING"]
        if wanted == 0 or (old and len(healthy) > least):
            for task in old[: len(old) if wanted == 0 else len(healthy) - least]:
                self.ask_to_stop(task, "Scaling activity or a new deployment")
        for task in new[wanted:] if len(new) > wanted else []:
            self.ask_to_stop(task, f"Scaling activity initiated by (deployment {service.name})")
        unfinished = [task for task in tasks_of(backend, service, stopping=True) if task.last_status != "STOPPED"]
        # What is on its way down counts only against a new deployment's limit.
        present = len(unfinished) if old else len(new)
        for _ in range(min(wanted - len(new), most - present) if old else wanted - len(new)):
            self.run(backend, service, definition)

    def run(self, backend: Any, service: Any, definition: str) -> None:
        strategy = getattr(service, "capacity_provider_strategy", None) or [{"capacityProvider": "FARGATE"}]
        # Instances are moto's to imagine: every provider has room.
        backend.run_task(
            service.cluster_name,
            definition,
            1,
            None,
            f"ecs-svc/{service.name}",
            None,
            None,
            service.network_configuration,
            f"service:{service.name}",
            None,
            [{"capacityProvider": "FARGATE"}],
        )[0].capacity_provider_name = strategy[0]["capacityProvider"]

    @staticmethod
    def ask_to_stop(task: Any, reason: str) -> None:
        if task.desired_status != "STOPPED":
            task.desired_status = "STOPPED"
            task.stopped_reason = reason

    @staticmethod
    def count(backend: Any, service: Any) -> None:
        tasks = tasks_of(backend, service, stopping=True)
        service.running_count = sum(task.last_status == "RUNNING" for task in tasks)
        service.pending_count = sum(task.last_status in ("PROVISIONING", "PENDING") for task in tasks)
        for deployment in service.deployments:
            deployment["desiredCount"] = service.desired_count
            deployment["runningCount"] = service.running_count
            deployment["pendingCount"] = service.pending_count
            deployment["taskDefinition"] = service.task_definition

    @staticmethod
    def count_clusters(backend: Any) -> None:
        for cluster in backend.clusters.values():
            states = [task.last_status for task in backend.tasks.get(cluster.name, {}).values()]
            cluster.running_tasks_count = states.count("RUNNING")
            cluster.pending_tasks_count = states.count("PROVISIONING") + states.count("PENDING")

    # ------------------------------------------------------------------ tasks

    def advance(self, backend: Any, task: Any) -> None:
        running = self.running.get(task.id)
        if running is None:
            if task.last_status != "STOPPED":
                if task.desired_status == "STOPPED":
                    task.last_status = "STOPPED"
                else:
                    self.launch(backend, task)
            return
        ended = [process for process in running.processes.values() if process.poll() is not None]
        if ended:
            self.finish(task, running, "Essential container in task exited")
        elif task.desired_status == "STOPPED":
            self.stop(task, running)
        else:
            self.look_at_health(task, running)

    def launch(self, backend: Any, task: Any) -> None:
        definition = backend.describe_task_definition(task.task_definition_arn)
        address = eni_of(task, "privateIPv4Address")
        running = RunningTask(task, definition, address, self.network.add(address))
        self.running[task.id] = running
        try:
            for container in definition.container_definitions:
                self.launch_container(running, container)
        except Exception as error:
            self.finish(task, running, f"CannotStartContainerError: {error}")
            raise
        task.last_status = "RUNNING"
        task.started_at = utcnow()
        self.register(backend, task, running)
        self.describe(running)

    def launch_container(self, running: RunningTask, container: dict[str, Any]) -> None:
        task = running.task
        overrides = next(
            (one for one in task.overrides.get("containerOverrides", []) if one["name"] == container["name"]), {}
        )
        command = overrides.get("command") or container["command"]
        variables = [*container.get("environment", []), *overrides.get("environment", [])]
        environment = {**self.environment, **{one["name"]: one["value"] for one in variables}}
        home = self.folder / "tasks" / task.id / container["name"]
        home.mkdir(parents=True)
        environment["HOME"] = str(home)
        mounts = f"mount --bind {self.hosts} /etc/hosts && mount --bind {self.resolv} /etc/resolv.conf"
        volumes = {one["name"]: one for one in running.definition.volumes}
        for mount in container.get("mountPoints", []):
            # One folder for each file system, wherever it is mounted.
            source = self.folder / "efs" / volumes[mount["sourceVolume"]]["efsVolumeConfiguration"]["fileSystemId"]
            source.mkdir(parents=True, exist_ok=True)
            target = mount["containerPath"]
            if not Path(target).exists():
                # Empty, as the place to mount at; only this task sees more than that in it.
                self.made.append(target)
            # Here, as another runner's may go at any time.
            mounts += f" && mkdir -p {target} && mount --bind {source} {target}"
        inside = ["ip", "netns", "exec", running.namespace, "unshare", "--mount"]
        process = subprocess.Popen(
            [*inside, "sh", "-c", f'{mounts} && exec "$@"', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=home,
            start_new_session=True,
        )
        running.processes[container["name"]] = process
        threading.Thread(target=self.read_log, args=(running, container, process), daemon=True).start()
        record = ecs.Container(running.definition)
        record.name = container["name"]
        record.image = container["image"]
        record.command = command
        record.last_status = "RUNNING"
        record.health_status = "UNKNOWN"
        record.runtime_id = record.runtimeId = f"{task.id.replace('-', '')}-0000000001"
        record.exitCode = None
        task.containers.append(record)

    def read_log(self, running: RunningTask, container: dict[str, Any], process: subprocess.Popen) -> None:
        task = running.task
        options = container.get("logConfiguration", {}).get("options", {})
        group, stream = options.get("awslogs-group"), None
        backend = logs_backends[task._account_id][task.region_name]
        if group and options.get("awslogs-create-group") == "true" and group not in backend.groups:
            backend.create_log_group(group, {})
        if group:
            stream = f"{options['awslogs-stream-prefix']}/{container['name']}/{task.id}"
            backend.ensure_log_stream(group, stream)
        with (self.folder / "tasks" / task.id / f"{container['name']}.log").open("wb") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                text = line.decode(errors="replace").rstrip("\n")
                if stream and text and group in backend.groups:
                    event = {"timestamp": int(time.time() * 1000), "message": text}
                    backend.put_log_events(group, stream, [event])

    def stop(self, task: Any, running: RunningTask) -> None:
        now = time.monotonic()
        if running.stopping_since is None:
            running.stopping_since = now
            task.last_status = "DEACTIVATING"
            # Out of the names first, as ECS does.
            self.deregister(running)
            for process in running.processes.values():
                kill(process, signal.SIGTERM, group=False)
        elif now - running.stopping_since > running.stop_timeout:
            for process in running.processes.values():
                kill(process, signal.SIGKILL)

    def finish(self, task: Any, running: RunningTask, reason: str) -> None:
        for process in running.processes.values():
            kill(process, signal.SIGKILL)
            process.wait()
        self.deregister(running)
        if self.running.pop(task.id).health is not None:
            kill(running.health, signal.SIGKILL)
        self.network.remove(running.namespace)
        ec2_backends[task._account_id][task.region_name].enis.pop(eni_of(task, "networkInterfaceId"), None)
        for record in task.containers:
            code = running.processes[record.name].returncode
            record.last_status = "STOPPED"
            # Docker's way to say that a signal ended it.
            record.exit_code = record.exitCode = 128 - code if code < 0 else code
        task.stopped_reason = task.stopped_reason or reason
        task.stopped_at = utcnow()
        task.desired_status = "STOPPED"
        task.last_status = "STOPPED"
        self.describe(running)

    def look_at_health(self, task: Any, running: RunningTask) -> None:
        """Runs a container's health check until it succeeds once."""
        [container, *_] = running.definition.container_definitions
        check = container.get("healthCheck")
        record = task.containers[0]
        if check is None or record.health_status == "HEALTHY":
            return
        if running.health is None:
            if time.monotonic() >= running.health_after:
                command = check["command"][1:] if check["command"][0] == "CMD" else ["sh", "-c", check["command"][1]]
                running.health = subprocess.Popen(
                    ["ip", "netns", "exec", running.namespace, *command],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        elif (code := running.health.poll()) is not None:
            running.health = None
            running.health_after = time.monotonic() + HEALTH_INTERVAL
            if code == 0:
                record.health_status = task.health_status = "HEALTHY"
                self.describe(running)

    # ------------------------------------------------------------------ names

    def register(self, backend: Any, task: Any, running: RunningTask) -> None:
        if not task.group.startswith("service:"):
            return
        service = backend.services[f"{task.cluster_name}:{task.group.removeprefix('service:')}"]
        names = servicediscovery_backends[task._account_id][task.region_name]
        for registry in service.service_registries:
            discovery = names.get_service(registry["registryArn"].split("/")[-1])
            names.register_instance(discovery.id, task.id, "", {"AWS_INSTANCE_IPV4": running.address})
            namespace = names.get_namespace(discovery.namespace_id)
            running.registered.append((names, discovery.id, f"{discovery.name}.{namespace.name}"))
        self.write_hosts()

    def deregister(self, running: RunningTask) -> None:
        for names, service, _ in running.registered:
            # Whoever deleted the name first has taken the registration with it.
            if service in names.services:
                names.deregister_instance(service, running.task.id)
        running.registered.clear()
        self.write_hosts()

    def write_hosts(self) -> None:
        lines = ["127.0.0.1 localhost"]
        for running in self.running.values():
            lines += [f"{running.address} {name}" for _, _, name in running.registered]
        # In place: tasks have this very file mounted.
        with self.hosts.open("w") as file:
            file.write("\n".join(lines) + "\n")

    def describe(self, running: RunningTask) -> None:
        """For tests that want to know a task's processes."""
        pids = {name: process.pid for name, process in running.processes.items()}
        file = self.folder / "tasks" / running.task.id / "task.json"
        file.write_text(json.dumps({"address": running.address, "pids": pids, "status": running.task.last_status}))


def backends() -> list[Any]:
    return [backend for account in list(ecs.ecs_backends.values()) for backend in list(account.values())]


def tasks_of(backend: Any, service: Any, stopping: bool = False) -> list[Any]:
    return [
        task
        for task in list(backend.tasks.get(service.cluster_name, {}).values())
        if task.group == f"service:{service.name}"
        and task.last_status != "STOPPED"
        and (stopping or task.desired_status != "STOPPED")
    ]


def eni_of(task: Any, name: str) -> str:
    return next(one["value"] for one in task.attachments[0]["details"] if one["name"] == name)


def kill(process: subprocess.Popen, number: int, group: bool = True) -> None:
    """A container's end takes all its processes; SIGTERM goes to the first of them alone."""
    try:
        os.killpg(process.pid, number) if group else os.kill(process.pid, number)
    except ProcessLookupError:
        pass
