"""Ray clusters whose nodes are processes of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}


@contextmanager
def running_cluster(nodes: int) -> Iterator[Any]:
    """Run a cluster of nodes with one core each within the context."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def remove_node(cluster: Any) -> None:
    """End a node without a word, as a machine that loses its power."""
    cluster.remove_node(sorted(cluster.worker_nodes, key=lambda node: str(node.unique_id))[0], allow_graceful=False)


def actors() -> list[psutil.Process]:
    """List the processes of this machine's actors that train."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            found += [process] * process.cmdline()[0].startswith("ray::_Mailbox")
        except (psutil.NoSuchProcess, IndexError):
            continue
    return found
