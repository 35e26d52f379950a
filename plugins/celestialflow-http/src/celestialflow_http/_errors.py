"""Reads the errors of HTTP libraries: which response they are about, and whether one without a response will pass.

A library is looked up among the loaded modules, never imported: an error of a library that is not loaded cannot be.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from celestialflow_core import RemoteError

__all__ = ["Response", "response_of", "will_pass"]

PASSING = {
    "requests.exceptions": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "httpx": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "http.client": ("IncompleteRead",),
}
"""Connections that failed, broke or took too long, by the names that their libraries promise."""

LASTING = {"aiohttp": ("ServerFingerprintMismatch",), "ssl": ("SSLCertVerificationError",)}
"""Of these, what will be the same next time: whoever answers is somebody else."""

SENT_AS_TEXT = {"httpx.HTTPStatusError", "urllib.error.HTTPError", "aiohttp.client_exceptions.ClientResponseError"}
STATUS_IN_TEXT = re.compile(r"(?:Client error '|Server error '|HTTP Error |)(\d{3})\b", re.ASCII)


class Response(NamedTuple):
    """What is known of the response that an error is about."""

    status: int
    headers: Mapping[str, str]


def response_of(error: BaseException) -> Response | None:
    """The response for which *error* was raised, or None: it is about something else, or there was no response."""
    response: Any = error
    if _is(error, "requests.exceptions", "HTTPError") or _is(error, "httpx", "HTTPStatusError"):
        response = getattr(error, "response", None)  # one of requests may have been raised without
        status = getattr(response, "status_code", None)
    elif _is(error, "aiohttp", "ClientResponseError"):
        status = response.status
    elif _is(error, "urllib.error", "HTTPError"):
        status = response.code
    elif isinstance(error, RemoteError) and error.type_name in SENT_AS_TEXT:
        # The error of a worker process that could not be pickled: its text has the status, and nothing the headers.
        found = STATUS_IN_TEXT.match(error.text)
        status = int(found[1]) if found else None
    else:
        return None
    return Response(status, getattr(response, "headers", None) or {}) if isinstance(status, int) else None


def will_pass(error: BaseException) -> bool | None:
    """Whether another try may end otherwise than with *error*, for which there was no response; None: who knows."""
    reason = getattr(error, "reason", None) if _is(error, "urllib.error", "URLError") else None
    if _is_any(error, PASSING) or (isinstance(reason, OSError) and not _is_of_files(reason)):
        return not any(_is_any(one, LASTING) for one in _behind(error))
    return None


def _is_of_files(reason: OSError) -> bool:
    """True for what a URL of a file leads to."""
    return isinstance(reason, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)


def _behind(error: BaseException) -> list[BaseException]:
    """*error* and those that led to it, which libraries keep in different places."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and not any(one is other for other in found):
            found.append(one)
            todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return found


def _is_any(error: BaseException, kinds: Mapping[str, tuple[str, ...]]) -> bool:
    return any(_is(error, module, name) for module, names in kinds.items() for name in names)


def _is(error: BaseException, module: str, name: str) -> bool:
    """Whether *error* is of that class, which it cannot be while the module is not loaded."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(error, kind)
