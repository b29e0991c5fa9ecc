"""What the scheduler raises at a client, and what functions find on `dask_scheduler`, as with stock's."""

from __future__ import annotations

import pytest

from cluster import Cluster


def test_unknown_names_and_the_view():
    async def look(dask_scheduler):
        s = dask_scheduler
        ts, (ws,) = s.tasks["k"], s.workers.values()
        return {
            "file": s.scheduler_file.endswith("scheduler.json"),
            "story": [row.finish for row in s.story(ts)][-1],
            "cost": s.get_comm_cost(ts, ws),
            "objective": s.worker_objective(ts, ws)[1] > 0,
            "valid": s.valid_workers(ts) == {ws},
            "monitor": list(await s.get_worker_monitor_info(recent=True)) == [ws.address],
            "preloads": s.preloads is not None and s.proc.is_running(),
        }

    with Cluster(workers=["stock"]) as cluster, cluster.client() as client:
        future = client.submit(str, 1, key="k", workers=list(client.scheduler_info(-1)["workers"]))
        assert future.result() == "1"
        for op, fields, missing in [
            ("retry", {"keys": [("nope", 0)], "client": client.id}, ("nope", 0)),
            ("get_metadata", {"keys": ["a", "b"]}, "a"),
            ("processing", {"workers": ["tcp://1.1.1.1:1"]}, "tcp://1.1.1.1:1"),
        ]:
            with pytest.raises(KeyError) as info:
                client.sync(getattr(client.scheduler, op), **fields)
            assert info.value.args == (missing,)
        assert client.run_on_scheduler(look) == {
            "file": True,
            "story": "memory",
            "cost": 0,
            "objective": True,
            "valid": True,
            "monitor": True,
            "preloads": True,
        }
