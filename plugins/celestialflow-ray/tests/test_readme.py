"""The example of the README, as a script of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_readme_example_runs(script: Callable[..., subprocess.Popen[str]]) -> None:
    """As it stands."""
    (source,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    process = script(source)
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 0, errors
