"""A Dask cluster on this machine, in a process of its own: scheduler, nannies and workers are this program's.

Run as a file by `_local`, with the number of a socket. Comes: how to make it, as a line of JSON. Goes: its address, or
what went wrong. It ends when the socket does, that is also when whoever asked for it has been killed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from traceback import format_exc


def main() -> None:
    """Serve until the socket ends."""
    link = socket.socket(fileno=int(sys.argv[1]))
    with link, link.makefile("rw") as lines:
        order = json.loads(lines.readline())
        # What the program can import, its workers can.
        sys.path[:] = order["path"]
        cluster = None
        try:
            import dask.config
            from distributed import LocalCluster

            # So long after each death a LocalCluster gives up the worker that is not there just then, also where that
            # one has come back since, and has died again. Its nanny has it back in a second.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "1000 days"})
            cluster = LocalCluster(
                n_workers=order["workers"],
                threads_per_worker=1,
                host="127.0.0.1",
                # No dashboard; but Dask serves metrics in any case, and 8787 may be somebody else's.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                silence_logs=order["silence"],
                memory_limit=0,
                resources=order["resources"],
                local_directory=order["directory"],
            )
        except Exception:
            answer = {"error": format_exc()}
        else:
            answer = {"address": cluster.scheduler_address}
        lines.write(json.dumps(answer) + "\n")
        lines.flush()
        if cluster is not None:
            lines.read()
            # Whoever asked for it has gone on. It will not wait for long, and what is late is killed, and may not tell.
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stderr.fileno())
            try:
                cluster.close(timeout=order["patience"])
            finally:
                shutil.rmtree(order["directory"], ignore_errors=True)


if __name__ == "__main__":
    main()
