"""The tests of `ExecutorContract` and `SinkContract`, one module for each subject."""

from __future__ import annotations

import pytest

# Before they are imported, so that a failed assertion of theirs shows its values, as one in a test file does.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{subject}"
        for subject in (
            "calls",
            "crossing",
            "endings",
            "errors",
            "isolation",
            "limits",
            "setups",
            "sink_holding",
            "sink_suite",
            "sink_writing",
        )
    )
)
