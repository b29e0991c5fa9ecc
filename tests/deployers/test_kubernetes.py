"""The Dask operator's own specifications and calls, the Helm chart's commands, and our manifests, with their probes."""

from __future__ import annotations

import asyncio
import copy
import logging
from functools import cache
from pathlib import Path

import dask_kubernetes.operator
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dask_kubernetes.operator import make_cluster_spec
from dask_kubernetes.operator.controller import controller
from distributed import Client
from pods import Pods
from processes import inc, slow_inc

from cloud import ROOT, wait_until
from local_aws import network

FOLDER = ROOT / "deploy" / "kubernetes"
IMAGE = "registry.example.com/dask-ts:0.1.0"


def documents(name):
    return [one for one in yaml.safe_load_all((FOLDER / name).read_text()) if one is not None]


def validate(resource):
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def pod(name, spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@cache
def schema_of_the_operator():
    """What it installs in Kubernetes."""
    folder = Path(dask_kubernetes.operator.__file__).parent / "deployment" / "helm" / "dask-kubernetes-operator"
    text = (folder / "crds" / "daskcluster.yaml").read_text()
    [version] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    return jsonschema.Draft7Validator(version["schema"]["openAPIV3Schema"])


def validate_cluster(resource):
    schema_of_the_operator().validate(resource)
    for role in ("scheduler", "worker"):
        validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": role}, "spec": resource["spec"][role]["spec"]}
        )


@pytest.fixture
def pods(tmp_path, processes):
    reason = network.reason_against()
    if reason is not None:
        pytest.skip(reason)
    pods = Pods(tmp_path)
    yield pods
    pods.close()
    processes.assert_none_left()


def workers_of(client):
    return sorted(one["name"] for one in client.scheduler_info(n_workers=-1)["workers"].values())


def test_operator(pods, monkeypatch):
    """From KubeCluster's specification through its controller: up, scaled, adapted, found idle, closed."""
    cluster = make_cluster_spec(name="simple", image=IMAGE, n_workers=4, resources={}, env={"FROM": "user"})
    validate_cluster(cluster)
    spec = cluster["spec"]
    deployment = controller.build_scheduler_deployment_spec("simple", spec["scheduler"]["spec"], {}, {})
    validate(deployment)
    hub = pods.start("scheduler", pod_of(deployment), "simple-scheduler.default.svc.cluster.local")
    workers = [
        controller.build_worker_deployment_spec(
            "simple-default", "default", "simple", f"{number}", copy.deepcopy(spec["worker"]["spec"]), {}, {}
        )
        for number in range(4)
    ]
    for one in workers:
        validate(one)
        pods.start(one["metadata"]["name"], pod_of(one))
    wait_until(lambda: hub.passes("readinessProbe") and hub.passes("livenessProbe"), "the scheduler's probes")

    async def address(service, namespace, port_name="tcp-comm", **_):
        assert (service, namespace) == ("simple-scheduler", "default")
        return {"tcp-comm": f"tcp://{hub.address}:8786", "http-dashboard": f"http://{hub.address}:8787"}[port_name]

    # Where a scheduler is in Kubernetes is all that its API would be asked for.
    monkeypatch.setattr(controller, "get_scheduler_address", address)
    logger = logging.getLogger("operator")
    service = {"scheduler_service_name": "simple-scheduler", "namespace": "default"}

    def idle_since():
        """What its timer for idle clusters sees, which takes a failure for "not idle" and asks again."""
        try:
            return asyncio.run(controller.check_scheduler_idle(**service, logger=logger))
        except Exception:
            return 0

    with Client(f"tcp://{hub.address}:8786", timeout=90) as client:
        client.wait_for_workers(4, timeout=90)
        names = [one["metadata"]["name"] for one in workers]
        assert workers_of(client) == names
        assert all(pods.pods[name].address in str(client.scheduler_info(n_workers=-1)) for name in names)
        futures = client.map(inc, range(100))
        assert client.gather(futures) == list(range(1, 101))
        wait_until(idle_since, "that it is idle")
        # Its autoscaler's question.
        busy = client.map(slow_inc, range(40), pure=False)
        wait_until(lambda: asyncio.run(controller.get_desired_workers(**service)) >= 2, "a wish for workers")
        assert not idle_since()
        client.cancel(busy)
        # Scaled down: workers are retired by the scheduler, then their deployments are deleted; no result is lost.
        retired = asyncio.run(
            controller.retire_workers(2, worker_group_name="simple-default", logger=logger, **service)
        )
        assert len(retired) == 2 and set(retired) < set(names)
        wait_until(lambda: workers_of(client) == sorted(set(names) - set(retired)), "two workers")
        pods.stop(*retired)
        assert client.gather(futures) == list(range(1, 101))
    assert pods.stop(*pods.pods) == [0, 0, 0]


def pod_of(deployment):
    return deployment["spec"]["template"]["spec"]


def test_manifest_of_the_operator():
    [cluster] = documents("operator-cluster.yaml")
    validate_cluster(cluster)
    ours = make_cluster_spec(name="dask-ts", image=IMAGE, n_workers=3)["spec"]
    for role in ("scheduler", "worker"):
        [one], [theirs] = (spec[role]["spec"]["containers"] for spec in (cluster["spec"], ours))
        assert (one["args"], one["ports"], one["image"]) == (theirs["args"], theirs["ports"], theirs["image"]), role
    assert cluster["spec"]["scheduler"]["service"] == ours["scheduler"]["service"]


def test_plain_manifests():
    resources = documents("cluster.yaml")
    assert [one["kind"] for one in resources] == ["Service", "Deployment", "Deployment", "NetworkPolicy"]
    for one in resources:
        validate(one)
    [patch] = documents("tls-patch.yaml")
    for deployment in (one for one in resources if one["kind"] == "Deployment"):
        for operation in patch:
            # RFC 6902 appends to the list; a list must be there.
            assert operation["path"] == "/spec/template/spec/containers/0/env/-"
            pod_of(deployment)["containers"][0]["env"].append(operation["value"])
        validate(deployment)
    [kustomization] = documents("kustomization.yaml")
    assert kustomization["resources"] == ["cluster.yaml"]
    used = {container["image"] for one in resources[1:3] for container in pod_of(one)["containers"]}
    assert used == {one["name"] for one in kustomization["images"]}


# What the templates of the chart dask/dask read (releases of 2023 to 2026); nothing else has an effect.
HELM_VALUES = {
    "image.repository image.tag image.pullPolicy image.pullSecrets resources env livenessProbe readinessProbe "
    "nodeSelector securityContext affinity tolerations serviceAccountName": ("scheduler", "worker", "jupyter"),
    "enabled replicas servicePort serviceType loadBalancerIP serviceAnnotations extraArgs metrics": ("scheduler",),
    "replicas strategy.type annotations mounts image.dask_worker custom_scheduler_url threads_per_worker port "
    "default_resources portDashboard extraArgs metrics": ("worker",),
    "enabled command args mounts servicePort serviceType password extraConfig ingress rbac": ("jupyter",),
}


def test_values_are_what_the_chart_reads():
    [values] = documents("helm-values.yaml")
    for role, given in values.items():
        known = {key for keys, roles in HELM_VALUES.items() if role in roles for key in keys.split()}
        for key, value in given.items():
            names = [f"{key}.{part}" for part in value] if key in ("image", "strategy") else [key]
            assert set(names) <= known, f"{role}.{names}"
        # These the chart puts into its pods as they are.
        container = {key: given[key] for key in ("resources", "livenessProbe", "readinessProbe") if key in given}
        container |= {"name": role, "image": "{repository}:{tag}".format(**given["image"])}
        validate(pod(role, {"containers": [container]}))


def test_helm(pods):
    """Its command lines with our values."""
    [values] = documents("helm-values.yaml")
    worker = values["worker"]
    spec = {
        "args": ["dask-scheduler", "--port=8786", "--dashboard-address=:8787"],
        "ports": [{"containerPort": 8786}, {"containerPort": 8787}],
    }
    hub = pods.start("scheduler", {"containers": [values["scheduler"] | spec]}, "my-dask-scheduler")
    limits = [
        "--nthreads",
        f"{worker['threads_per_worker']}",
        "--memory-limit",
        worker["resources"]["limits"]["memory"],
    ]
    spec = {
        "args": ["dask-worker", "my-dask-scheduler:8786", *limits, "--no-dashboard", "--dashboard-address", "8790"],
        "ports": [{"containerPort": 8790, "name": "dashboard"}],
    }
    names = [f"worker-{number}" for number in range(2)]
    workers = [pods.start(name, {"containers": [worker | spec]}) for name in names]
    with Client(f"tcp://{hub.address}:8786", timeout=90) as client:
        client.wait_for_workers(2, timeout=90)
        info = client.scheduler_info(n_workers=-1)["workers"].values()
        assert {(one["nthreads"], one["memory_limit"]) for one in info} == {(2, 8 * 10**9)}
        assert client.gather(client.map(inc, range(50))) == list(range(1, 51))
        for pod in (hub, *workers):
            wait_until(lambda pod=pod: pod.passes("readinessProbe") and pod.passes("livenessProbe"), "its probes")
    assert pods.stop("scheduler", *names) == [0, 0, 0]
