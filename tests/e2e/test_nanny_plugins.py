"""NannyPlugins on our nannies: registered with running ones, handed to new ones."""

from __future__ import annotations

import os

import pytest
from distributed import NannyPlugin
from distributed.diagnostics.plugin import Environ, UploadDirectory

from cluster import wait_until


class Sees(NannyPlugin):
    name = "sees"
    restart = False

    def setup(self, nanny):
        from distributed import Nanny

        assert isinstance(nanny, Nanny)
        nanny.env["SEEN_BY"] = nanny.address
        nanny.log_event("nanny-plugin", {"folder": os.path.isdir(nanny.local_directory)})

    async def teardown(self, nanny):
        nanny.log_event("nanny-plugin", "torn down")


class Fails(NannyPlugin):
    def setup(self, nanny):
        raise ValueError("not on this nanny")


def environment(name):
    return os.environ.get(name)


def test_nanny_plugins(cluster, client, tmp_path):
    client.register_plugin(Environ({"FROM_A_PLUGIN": 5}), name="environ")
    client.wait_for_workers(2)
    assert set(client.run(environment, "FROM_A_PLUGIN").values()) == {"5"}

    client.register_plugin(Sees())
    wait_until(lambda: client.get_events("nanny-plugin"), "the event of a plugin")
    assert client.get_events("nanny-plugin")[0][1] == {"folder": True}
    with pytest.raises(ValueError, match="not on this nanny"):
        client.register_plugin(Fails(), name="fails")

    module = tmp_path / "uploaded_folder" / "mod.py"
    module.parent.mkdir()
    module.write_text("value = 11\n")
    (module.parent / "__init__.py").write_text("")
    client.register_plugin(UploadDirectory(str(module.parent), restart_workers=False))

    def value():
        import uploaded_folder.mod

        return uploaded_folder.mod.value

    assert set(client.run(value).values()) == {11}

    cluster.start_worker("ours", "--name", "late")
    client.wait_for_workers(3)
    assert set(client.run(environment, "FROM_A_PLUGIN").values()) == {"5"}
    late = next(a for a, w in client.scheduler_info(-1)["workers"].items() if w["name"] == "late")
    assert client.run(environment, "SEEN_BY", workers=[late])[late] is not None
    assert client.run(value, workers=[late])[late] == 11

    client.unregister_worker_plugin("sees", nanny=True)
    assert "torn down" in [message for _, message in client.get_events("nanny-plugin")]
