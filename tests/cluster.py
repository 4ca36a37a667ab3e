"""A Ray cluster of several node processes on this machine, told what to do on standard input: add, kill, quit.

python tests/cluster.py 2        # prints its address; a head without cores, and two nodes of one core each
"""

from __future__ import annotations

import itertools
import sys

from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 80_000_000}


def main(num_nodes: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})

    numbers = itertools.count()

    def add(**variables: str) -> object:
        own = f"runtime_resources_{next(numbers)}"  # code that is sent: each node its own, as on machines apart
        return cluster.add_node(num_cpus=1, env_vars=variables, runtime_env_dir_name=own, **SMALL)

    nodes = [add() for _ in range(num_nodes)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["add", *variables]:
                nodes.append(add(**dict(variable.split("=", 1) for variable in variables)))
            case ["kill"]:  # as when its machine is switched off
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            case ["quit"]:
                break
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
