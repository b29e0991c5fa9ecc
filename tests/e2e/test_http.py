"""The HTTP ports of scheduler and workers, as monitors, browsers, proxies and operators use them."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from cluster import Cluster, wait_until
from test_tls import make_certificates

ROUTES = [
    "distributed.http.scheduler.prometheus",
    "distributed.http.scheduler.info",
    "distributed.http.scheduler.json",
    "distributed.http.health",
    "distributed.http.proxy",
    "distributed.http.statics",
    "distributed.http.scheduler.api",
]


def fetch(url, data=None, headers=None, context=None):
    request = urllib.request.Request(url, data, headers or {})
    with urllib.request.urlopen(request, timeout=30, context=context) as reply:
        return reply.read().decode()


def status(url, **kwargs):
    try:
        fetch(url, **kwargs)
    except urllib.error.HTTPError as e:
        return e.code
    return 200


@pytest.fixture(scope="module")
def cluster():
    env = {
        "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": repr(ROUTES),
        "DASK_DISTRIBUTED__SCHEDULER__HTTP__API_TOKEN": "secret-token",
    }
    flags = ["--dashboard-prefix", "/a/b", "--dashboard-address", "127.0.0.1:0,127.0.0.1:0"]
    with Cluster("ours", ["ours", "stock"], scheduler_flags=flags, env=env) as c:
        yield c


@pytest.fixture(scope="module")
def base(cluster):
    return f"http://127.0.0.1:{cluster.identity['services']['dashboard']}/a/b"


def test_prefix_and_link(cluster, base):
    assert fetch(f"{base}/health") == "ok"
    assert fetch(f"{base}/readyz") == "ok"
    assert status(base.removesuffix("/a/b") + "/health") == 404
    # redirects stay below the prefix
    with urllib.request.urlopen(base) as reply:
        assert reply.url == f"{base}/status"
    assert f"dashboard at:  {base}/status" in cluster.scheduler.text


def test_every_path_of_the_site_map_answers(base):
    paths = json.loads(fetch(f"{base}/sitemap.json"))["paths"]
    for path in paths:
        if not set("*:") & set(path) and "api/" not in path and path != "/eventstream":
            body = fetch(base + path)
            if body.startswith("<!DOCTYPE html>"):
                assert xml.etree.ElementTree.fromstring(body).tag == "html", path
    # stock's 500 while tasks run: tuples as keys of metrics
    assert json.loads(fetch(f"{base}/json/identity.json"))["n_workers"] == 2


def test_proxy_to_workers_of_both_kinds(base):
    workers = json.loads(fetch(f"{base}/json/identity.json"))["workers"]
    assert len(workers) == 2
    for worker in workers.values():
        port = worker["services"]["dashboard"]
        assert fetch(f"{base}/proxy/{port}/127.0.0.1/health") == "ok"
        assert status(f"{base}/proxy/{port + 1}/127.0.0.1/health") == 400


def test_event_stream(cluster, base):
    url = base.replace("http:", "ws:") + "/eventstream"

    async def run():
        with pytest.raises(HTTPClientError, match="403"):
            await websocket_connect(HTTPRequest(url, headers={"Origin": "http://evil.invalid"}))
        stream = await websocket_connect(url)
        seen = [json.loads(await stream.read_message()) for _ in range(2)]
        async with cluster.client(asynchronous=True) as c:
            await c.submit(sum, [1, 2], key="total")
        while seen[-1]["name"] != "remove_client":
            seen.append(json.loads(await stream.read_message()))
        stream.close()
        return seen

    seen = asyncio.run(run())
    names = [message["name"] for message in seen]
    assert names == ["add_worker"] * 2 + ["add_client", "update_graph", "transition", "remove_client"]
    assert seen[4]["key"] == "total"
    assert seen[4]["action"] == "compute"
    assert seen[4]["worker"] in {message["worker"] for message in seen[:2]}


def test_api_retires_workers_for_who_knows_the_token(cluster, base):
    url = f"{base}/api/v1/retire_workers"
    assert status(url, data=b'{"n": 1}') == 401
    headers = {"Authorization": "Bearer secret-token"}
    assert status(url, data=b"{", headers=headers) == 400
    assert status(f"{base}/api/v1/get_workers", headers=headers) == 200
    worker = cluster.start_worker("ours")
    cluster.wait_for_workers(3)
    wait_until(lambda: "Registered to" in worker.text, "the third worker")
    address = next(line for line in worker.text.splitlines() if "Start worker at" in line).split()[-1]
    retired = json.loads(fetch(url, data=json.dumps({"workers": [address]}).encode(), headers=headers))
    assert list(retired) == [address]
    wait_until(lambda: not worker.running, "the worker to end")


def test_https_and_no_dashboard(tmp_path):
    make_certificates(tmp_path)
    keys = "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__TLS__"
    env = {f"{keys}CERT": str(tmp_path / "good.pem"), f"{keys}KEY": str(tmp_path / "good.key")}
    with Cluster("ours", ["ours"], scheduler_flags=["--no-dashboard"], env=env) as c:
        port = c.identity["services"]["dashboard"]
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        context.check_hostname = False
        assert f"https://127.0.0.1:{port}/status" in c.scheduler.text
        assert fetch(f"https://127.0.0.1:{port}/health", context=context) == "ok"
        assert status(f"https://127.0.0.1:{port}/status", context=context) == 404
        [worker] = json.loads(fetch(f"https://127.0.0.1:{port}/json/identity.json", context=context))[
            "workers"
        ].values()
        proxied = f"https://127.0.0.1:{port}/proxy/{worker['services']['dashboard']}/127.0.0.1/status"
        assert "System" in fetch(proxied, context=context)
        with pytest.raises(OSError):
            fetch(f"http://127.0.0.1:{port}/health")
