"""The example of the README, with a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"


def test_readme_example_runs(server: Any) -> None:
    """As it stands, but for the URL."""
    (source,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    shown = "postgresql://ana:secret@db.example/numbers"
    assert source.count(shown) == 1
    exec(compile(source.replace(shown, server.url()), str(README), "exec"), {"__name__": "__main__"})
