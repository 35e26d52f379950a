"""What every executor keeps, as tests: subclass `ExecutorContract` in a test file and give the factory.

    class TestMyExecutor(ExecutorContract):
        def make_executor(self):
            return MyExecutor(worker_limit=2)

The suite goes by the executor's ``capabilities``: what it does not claim is skipped, what it claims is tested. An
`AsyncExecutor` is driven through a loop, and is given coroutine functions.
"""

from __future__ import annotations

from celestialflow_core.testing._contract.calls import CallTests
from celestialflow_core.testing._contract.crossing import CrossingTests
from celestialflow_core.testing._contract.endings import EndingTests
from celestialflow_core.testing._contract.errors import ErrorTests
from celestialflow_core.testing._contract.isolation import IsolationTests
from celestialflow_core.testing._contract.limits import TimeLimitTests
from celestialflow_core.testing._contract.setups import SetupTests

__all__ = ["ExecutorContract"]


class ExecutorContract(CallTests, CrossingTests, ErrorTests, EndingTests, TimeLimitTests, SetupTests, IsolationTests):
    """Tests for one executor. Override `make_executor`, and the rest where it has to be.

    Attributes:
        patience: Seconds to wait for what must come. Raise it for a system that is slow to start.
        isolated: Whether calls run in processes apart, so that one which ends its process, or changes it, does so to
            nobody else. Set it where that is so, and it is tested.
    """
