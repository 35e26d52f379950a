"""What a user may give as a sink, and what is said of anything else."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from celestialflow_core import hookimpl
from celestialflow_core.errors import PluginError, SinkError, UnknownSink
from celestialflow_core.plugins.registry import Registry
from celestialflow_core.sinks import Sink, Store, label_of, resolve_sink
from celestialflow_core.testing import RecordingSink, RecordingStore

pytestmark = pytest.mark.pure

SECRET = "postgresql://ann:s3cret@h/x"


def registry(**factories: Any) -> Registry:
    """The core's sinks, and these."""

    class Plugin:
        @hookimpl
        def sink_factories(self) -> Any:
            return factories

    return Registry.load([], {}).with_plugins([Plugin()])


@pytest.mark.parametrize(("url", "kind"), [("sqlite:a.db", "SqliteStore"), ("jsonl:a.jsonl", "JsonlStore")])
def test_url_is_made_by_the_sink_of_its_name(url: str, kind: str) -> None:
    """The built-in ones are stores; making one opens and creates nothing."""
    sink = resolve_sink(url, registry())

    assert type(sink).__name__ == kind
    assert isinstance(sink, Store)
    assert repr(sink) == f"<{kind} {url}>"
    assert type(resolve_sink(url)) is type(sink)  # of the installed plugins


def test_object_is_a_sink_as_it_is() -> None:
    """Whatever has open, write and close; the fakes are such."""
    for sink in (RecordingSink(), RecordingStore()):
        assert resolve_sink(sink, registry()) is sink
        assert isinstance(sink, Sink)
    assert not isinstance(RecordingSink(), Store)


@pytest.mark.parametrize(
    ("given", "lacks"),
    [(3, "3 has no open()"), (None, "None has no open()"), (RecordingSink, "is a class: give an object of it")],
)
def test_anything_else_is_a_type_error(given: Any, lacks: str) -> None:
    """That says what a sink is, and what is missing."""
    with pytest.raises(TypeError) as caught:
        resolve_sink(given, registry())
    assert "A sink is a URL like 'sqlite:results.db', or an object with open, write and close" in str(caught.value)
    assert lacks in str(caught.value)


def test_factory_that_gives_no_sink_is_told() -> None:
    """The message says whose factory it is."""
    with pytest.raises(PluginError, match=r"The sink 'odd' cannot be made: the factory .* gave 3, which is not a sink"):
        resolve_sink("odd:x", registry(odd=lambda url: 3))


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("results.db", "A sink is named by a URL: write 'sqlite:results.db'."),
        ("/a/out.jsonl", "A sink is named by a URL: write 'jsonl:/a/out.jsonl'."),
        ("out.parquet", "A sink is named by a URL: write 'parquet:out.parquet'."),
        ("results", "A sink is named by a URL, such as 'sqlite:results.db'."),
    ],
)
def test_path_without_a_name_says_what_to_write(path: str, advice: str) -> None:
    """The name that its suffix suggests."""
    with pytest.raises(UnknownSink) as caught:
        resolve_sink(path, registry())
    assert str(caught.value).endswith(advice)


def test_driver_in_the_name_is_left_to_the_sink() -> None:
    """ "postgresql+psycopg" is postgresql's, unless a plugin has that very name."""
    made: list[str] = []

    def factory(url: str) -> RecordingSink:
        made.append(url)
        return RecordingSink()

    resolve_sink("base+driver://h", registry(base=factory))
    with pytest.raises(UnknownSink, match="No sink is named 'else\\+driver'"):
        resolve_sink("else+driver://h", registry(base=factory))

    assert made == ["base+driver://h"]


def test_no_secret_is_shown() -> None:
    """Not in a label, nor in an error or the traceback of a factory that fails with the URL in its text."""

    def factory(url: str) -> Any:
        raise ValueError(f"cannot parse {url}: password s3cret")

    with pytest.raises(SinkError) as caught:
        resolve_sink(SECRET, registry(postgresql=factory))
    with pytest.raises(UnknownSink) as unknown:
        resolve_sink(SECRET, registry())

    shown = [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value), label_of(SECRET)]
    shown += [str(unknown.value), repr(unknown.value)]
    assert "s3cret" not in "".join(shown)
    assert str(caught.value) == (
        "postgresql://ann:***@h/x: This sink cannot be made "
        "(ValueError: cannot parse postgresql://ann:***@h/x: password ***)."
    )


def test_factory_that_fails_is_the_cause() -> None:
    """Where there is nothing secret in what it says, its traceback is kept."""

    def factory(url: str) -> Any:
        raise LookupError("no such bucket.")

    with pytest.raises(
        SinkError, match=r"bucket:x: This sink cannot be made \(LookupError: no such bucket\)\."
    ) as caught:
        resolve_sink("bucket:x", registry(bucket=factory))
    assert isinstance(caught.value.__cause__, LookupError)


def test_label_of_an_object_is_its_type() -> None:
    """Its repr may hold anything."""
    assert label_of(RecordingSink()) == "RecordingSink"


def test_engine_that_is_not_installed_is_told_without_secrets() -> None:
    """An ImportError of a factory is the plugin's fault, and says whose."""

    def factory(url: str) -> Any:
        raise ModuleNotFoundError(f"No module named 'driver', which {url} needs", name="driver")

    with pytest.raises(PluginError) as caught:
        resolve_sink(SECRET, registry(postgresql=factory))

    text = "".join(traceback.format_exception(caught.value))
    assert "The sink 'postgresql' cannot be made: the factory of the plugin" in text
    assert "ann:***@h/x needs" in text
    assert "s3cret" not in text
