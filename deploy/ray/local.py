"""A Ray cluster of several nodes on this machine that loses replicas and nodes on demand.

For tests and measurements: ``deploy.ray.trial`` starts it as a process of its own, so that all of Ray goes
with it, and sends one JSON command a line. Each is answered with one line.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster

from deploy.ray.app import build
from deploy.ray.scale import Scale

OBJECT_STORE_BYTES = 80 * 2**20
"""Near the least that Ray accepts; requests do not go through it."""


class LocalCluster:
    """Nodes that share this machine; the first is the head, where the HTTP proxy is."""

    def __init__(self, port: int, nodes: list[dict[str, Any]]) -> None:
        """Start nodes and proxy.

        Args:
            port: Of the proxy, on the loopback interface.
            nodes: Resources of each, e.g. ``{"num_cpus": 1, "num_gpus": 1}``; they are claims, not measured.
        """
        self._cluster = Cluster()
        self._others: list[Any] = []
        for node in nodes:
            self.add_node(**node)
        ray.init(self._cluster.address, log_to_driver=False)
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port},
            logging_config={"enable_access_log": False},
        )

    def add_node(self, **resources: float) -> None:
        """Start another node with these resources."""
        head = self._cluster.head_node is None
        options: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES, **resources}
        if head:
            options["include_dashboard"] = False
        node = self._cluster.add_node(**options)
        if not head:
            self._others.append(node)

    def kill_node(self) -> None:
        """End the node that came last, not the head, without warning."""
        self._cluster.remove_node(self._others.pop(), allow_graceful=False)

    def deploy(self, scale: dict[str, Any], name: str = "default", route_prefix: str = "/") -> None:
        """Deploy the service, or change how it is deployed, and wait until it answers."""
        serve.run(build(Scale(**scale)), name=name, route_prefix=route_prefix)

    def replicas(self, name: str = "default") -> list[str]:
        """Replicas that there are, starting ones included."""
        prefix = f"SERVE_REPLICA::{name}#"
        actors = ray.util.list_named_actors(all_namespaces=True)
        return sorted(actor["name"] for actor in actors if actor["name"].startswith(prefix))

    def settled(self, replicas: int, name: str = "default") -> bool:
        """Whether there are so many replicas, and all of them answer requests."""
        (deployment,) = serve.status().applications[name].deployments.values()
        return deployment.replica_states == {"RUNNING": replicas} and len(self.replicas(name)) == replicas

    def free(self, resource: str) -> float:
        """What nobody has claimed of a resource, over all nodes."""
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        return free.get(resource, 0)

    def kill_replica(self, name: str = "default") -> str:
        """End a replica's process at once; which it was."""
        replica = self.replicas(name)[0]
        ray.kill(ray.get_actor(replica, namespace="serve"))
        return replica

    def close(self) -> None:
        """End everything."""
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
        self._cluster.shutdown()  # type: ignore[no-untyped-call]


def main() -> int:
    """Start what the first line says, obey the others, and end with the input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Ray prints
    with closing(LocalCluster(**json.loads(sys.stdin.readline()))) as cluster:
        answers.write("null\n")
        for line in sys.stdin:
            name, arguments = json.loads(line)
            answers.write(json.dumps(getattr(cluster, name)(**arguments)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
