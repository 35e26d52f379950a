"""Managers that stream into one another, as one run with the invariants of a single manager.

    sources --> Stage --settled--> Junction --channels--> Stage --> ... --> exit
                  ^                                          |
                  `--------------- one Run, one completion queue

`TaskGraph` is what users see: managers, edges, and the four ways to run. `_network` has what it is made of. `_launch`
makes stages of the managers (as for a manager alone), hangs a `Junction` behind each, and gives it all to the one `Run`
of the driver. Nothing here has a thread or a loop. What becomes of a result is decided in `_junction`; results that are
exploded (`_spring`), joins (`_family`) and the order of stages (`_schedule`) are its parts. `_topology`, `_shapes` and
`_drawing` are pure.
"""

from celestialflow_core.graph._family import Family
from celestialflow_core.graph._graph import TaskGraph
from celestialflow_core.graph._status import GraphStatus, StageStatus

__all__ = ["Family", "GraphStatus", "StageStatus", "TaskGraph"]
