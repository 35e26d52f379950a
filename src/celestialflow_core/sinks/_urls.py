"""The URL of a sink: what it says, and the form in which it may be shown.

sqlite:results.db?synchronous=full        name, path, options
postgresql://user:password@host/db        shown as postgresql://user:***@host/db
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import attrs

from celestialflow_core.errors import SinkError

__all__ = ["FileUrl", "name_of", "redacted", "without_secrets"]

_NAME = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*):")
_USER = re.compile(r"(?P<before>//[^/?#:]*:)(?P<secret>[^/?#]*)@")
_USER_ODD = re.compile(r"(?P<before>//[^/?#:]*:)(?P<secret>.*)@", re.DOTALL)
"""The same for a password with a "/", "?" or "#" in it, as people write it. Hides too much rather than too little."""
_OPTION = re.compile(
    r"(?P<before>[?&;][^=&;#]*(?:passw|passphrase|pwd|secret|token|key|auth|credential|signature|sig\b)[^=&;#]*=)"
    r"(?P<secret>[^&;#]*)",
    re.IGNORECASE,
)
_STARS = "***"


def name_of(url: str) -> str | None:
    """The name of the sink that *url* is for, or None where it is no URL."""
    match = _NAME.match(url)
    return match[1] if match else None


def redacted(url: str) -> str:
    """*url* for messages, logs and reprs: passwords, tokens and keys are three stars."""
    url = _USER_ODD.sub(rf"\g<before>{_STARS}@", url, count=1)
    return _OPTION.sub(rf"\g<before>{_STARS}", url)


def without_secrets(text: str, url: str) -> str:
    """*text*, which somebody else wrote about *url*, without what is secret in it."""
    text = text.replace(url, redacted(url))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, _STARS)
    return text


def _secrets(url: str) -> set[str]:
    found = {match["secret"] for pattern in (_USER, _USER_ODD, _OPTION) for match in pattern.finditer(url)}
    return {form for secret in found for form in (secret, unquote(secret)) if len(form) > 2}


@attrs.frozen(kw_only=True)
class FileUrl:
    """The URL of a store that is a file: ``name:relative.db``, ``name:/absolute.db`` or ``name:///absolute.db``.

    The path is taken as it stands, up to a "?"; a leading ``~`` is the home folder.

    Attributes:
        label: What to call the store in messages.
        path: The file, absolute.
        options: What follows the "?".
    """

    label: str
    path: Path
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str, options: Mapping[str, tuple[str, ...]]) -> FileUrl:
        """Read *url*.

        Args:
            url: What the user gave.
            options: The options that there are, each with the values that it may have.

        Raises:
            SinkError: It names no file, or an option that there is not.
        """
        label = redacted(url)
        name, _, rest = url.partition(":")
        path, _, query = rest.partition("?")
        if path.startswith("//"):
            path = path[2:]
            if path and not path.startswith("/"):
                raise SinkError(label, f"A path after // is absolute. Write {name}:{path}, or {name}:///{path}.")
        if not path or path.endswith("/"):
            raise SinkError(label, f"It names no file. Write {name}:PATH, or {name}:///ABSOLUTE/PATH.")
        given = dict(parse_qsl(query, keep_blank_values=True))
        for option, value in given.items():
            allowed = options.get(option)
            if allowed is None:
                known = f"There is: {', '.join(sorted(options))}." if options else "This sink has none."
                raise SinkError(label, f"There is no option {option!r}. {known}")
            if value not in allowed:
                raise SinkError(label, f"{option} must be {' or '.join(allowed)}.")
        return cls(label=label, path=Path(os.path.abspath(os.path.expanduser(path))), options=given)
