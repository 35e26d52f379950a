"""How the command line ends: the exit codes, and what each exception means for them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

__all__ = ["Broken", "ExitCode", "ReaderGone", "endings", "plain_warnings", "say"]


class ExitCode:
    """The exit codes of the command line."""

    SUCCEEDED = 0
    FAILED = 1
    """Some tasks failed, in this run or in the one that it goes on from."""
    USAGE = 2
    STOPPED = 3
    """A stop rule ended the run."""
    BROKEN = 4
    """The run itself failed: a sink, the set-up of a worker, a plugin, the input."""
    INTERRUPTED = 130
    READER_GONE = 141
    """Nobody reads the results any more; what a shell says of a program that SIGPIPE ended."""


class Broken(click.ClickException):
    """The run itself cannot be carried out, for a reason that is no wrong usage."""

    exit_code = ExitCode.BROKEN

    def show(self, file: object = None) -> None:
        """Say it on stderr."""
        say(f"Error: {self.format_message()}")


class ReaderGone(Exception):
    """Whoever read standard output has gone."""


def say(text: str) -> None:
    """Write *text* to stderr, if somebody is there to read it."""
    try:
        click.echo(text, err=True)
    except OSError:
        pass


@contextmanager
def endings() -> Iterator[None]:
    """Ends the process with the exit code, and the words, that fit what comes out of the block."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except KeyboardInterrupt:
        say("Interrupted.")
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except ReaderGone:
        raise SystemExit(ExitCode.READER_GONE) from None
    except Exception as error:
        if isinstance(error, OSError) and _is_of_output(error):
            _forget_output()
            if isinstance(error, BrokenPipeError):
                raise SystemExit(ExitCode.READER_GONE) from None
            say(f"Error: Standard output cannot be written: {error.strerror or error}.")
            raise SystemExit(ExitCode.BROKEN) from None
        from celestialflow_core.errors import CelestialFlowError

        if isinstance(error, CelestialFlowError):
            say(f"Error: {type(error).__name__}: {error}")
        else:
            import traceback

            say("".join(traceback.format_exception(error)).rstrip())
        raise SystemExit(ExitCode.BROKEN) from None
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass


def _is_of_output(error: OSError) -> bool:
    """Whether it was raised in the midst of `click.echo`, by which help and tables are written."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code is click.echo.__code__


def _forget_output() -> None:
    """Let the interpreter, when it ends, write into nothing what it could not write, or it would exit with 120."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):  # it has no descriptor
        pass
    finally:
        os.close(null)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Inside the block what we warn of is one sentence on stderr: nobody at a terminal wants the line of our code."""
    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__module__.startswith("celestialflow_"):
            say(f"Warning: {message}")
        else:
            shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown
