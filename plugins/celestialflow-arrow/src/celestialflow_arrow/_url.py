"""The URL of a store: ``parquet:folder/``, ``parquet:///absolute/folder?rows=100000&seconds=10&synchronous=full``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

import attrs

from celestialflow_core.errors import SinkError

__all__ = ["ParquetUrl"]

_ROWS: Final = 50_000
_SECONDS: Final = 60.0
_OPTIONS: Final = ("rows", "seconds", "synchronous")


@attrs.frozen(kw_only=True)
class ParquetUrl:
    """What a URL says.

    Attributes:
        label: What to call the store in messages.
        folder: Where the files are, absolute.
        rows: With how many rows a journal becomes a part.
        seconds: After how many seconds it does so with fewer.
        full: Whether each batch shall outlive a power failure.
    """

    label: str
    folder: Path
    rows: int = _ROWS
    seconds: float = _SECONDS
    full: bool = False

    @classmethod
    def parse(cls, url: str) -> ParquetUrl:
        """Read *url*.

        Raises:
            SinkError: It names no folder, or an option or a value that there is not.
        """
        name, _, rest = url.partition(":")
        path, _, query = rest.partition("?")
        if path.startswith("//"):
            path = path[2:]
            if path and not path.startswith("/"):
                raise SinkError(url, f"A path after // is absolute. Write {name}:{path}, or {name}:///{path}.")
        if not path:
            raise SinkError(url, f"It names no folder. Write {name}:FOLDER, or {name}:///ABSOLUTE/FOLDER.")
        options = dict(parse_qsl(query, keep_blank_values=True))
        for option in options:
            if option not in _OPTIONS:
                raise SinkError(url, f"There is no option {option!r}. There is: {', '.join(_OPTIONS)}.")
        synchronous = options.get("synchronous", "normal")
        if synchronous not in ("normal", "full"):
            raise SinkError(url, "synchronous must be normal or full.")
        return cls(
            label=url,
            folder=Path("/" + os.path.abspath(os.path.expanduser(path)).lstrip("/")),
            rows=int(_number(url, options, "rows", _ROWS, 1)),
            seconds=_number(url, options, "seconds", _SECONDS, 0),
            full=synchronous == "full",
        )


def _number(url: str, options: dict[str, str], option: str, default: float, least: int) -> float:
    given = options.get(option)
    if given is None:
        return default
    try:
        number = float(given) if option == "seconds" else int(given)
        if least <= number < float("inf"):
            return number
    except ValueError:
        pass
    raise SinkError(url, f"{option} must be a number, {least} or more, not {given!r}.")
