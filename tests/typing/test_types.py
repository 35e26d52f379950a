"""Types are an API: both checkers agree with every line of api.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

API = Path(__file__).with_name("api.py")
WRONG = "assert_type(TaskManager(fetch), TaskManager[bytes, bytes])"
NEEDLESS = "TaskManager(fetch)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]"


def check(checker: str, file: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What *checker* says of *file*, in its strict form; run in *folder*, where it finds no other configuration."""
    if checker == "mypy":
        options = ["--strict", "--no-incremental", "--config-file", "", str(file)]
    else:
        settings = {
            "include": [str(file)],
            "pythonVersion": "3.11",
            "typeCheckingMode": "standard",
            "enableTypeIgnoreComments": False,  # those are mypy's
            "reportUnnecessaryTypeIgnoreComment": "error",
        }
        project = folder / "pyrightconfig.json"
        project.write_text(json.dumps(settings), encoding="utf-8")
        options = ["--level", "error", "--pythonpath", sys.executable, "--project", str(project)]
    return subprocess.run(
        [sys.executable, "-m", checker, *options], cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_checker_agrees_with_every_line(checker: str, own_folder: Path) -> None:
    """No line has another type, no line that must be refused is accepted; and the check itself can fail."""
    done = check(checker, API, own_folder)
    assert done.returncode == 0, done.stdout + done.stderr

    lines = API.read_text(encoding="utf-8").splitlines()
    at = lines.index("assert_type(TaskManager(fetch), TaskManager[str, bytes])")
    lines[at : at + 1] = [WRONG, NEEDLESS]
    wrong = own_folder / "wrong.py"
    wrong.write_text("\n".join(lines), encoding="utf-8")
    done = check(checker, wrong, own_folder)
    reported = {line.split(":")[1] for line in done.stdout.splitlines() if "wrong.py:" in line and " error" in line}
    assert reported == {str(at + 1), str(at + 2)}, done.stdout
