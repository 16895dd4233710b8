"""A cluster of two machines, as Ray makes them of one, and the processes that work on it."""

import os
import pathlib
import signal
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
import ray.data
from ray.cluster_utils import Cluster


def two_machines():
    """With two processors each, by Ray's books."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return cluster


def working(cluster, what):
    """The processes of the cluster's workers whose title, which Ray gives them, has `what` in it."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent in raylets and what in (process / "cmdline").read_text():
                found.append(int(process.name))
        except OSError:
            # It has ended.
            pass
    return sorted(found)


def kill_one(cluster, what, killed, at_least=1, after=0.0):
    """Waits until so many processes do `what`, and kills one of them."""
    until = time.monotonic() + 120
    while len(there := working(cluster, what)) < at_least and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(after)
    os.kill(there[0], signal.SIGKILL)
    killed.append(there[0])
