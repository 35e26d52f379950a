"""The URL of a sink: its parts, and that nothing secret in it is ever shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core.errors import SinkError
from celestialflow_core.sinks import redacted, without_secrets
from celestialflow_core.sinks._urls import name_of
from celestialflow_core.sinks.files import FileUrl

pytestmark = pytest.mark.pure

OPTIONS = {"synchronous": ("normal", "full")}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:results.db?synchronous=full", "sqlite:results.db?synchronous=full"),
        ("postgresql://ann:s3cret@db.example/x", "postgresql://ann:***@db.example/x"),
        ("postgresql://ann:s3c:r@et@db.example/x", "postgresql://ann:***@db.example/x"),
        ("postgresql://ann:s3/c?r#et@db.example/x", "postgresql://ann:***@db.example/x"),
        ("postgresql://:s3cret@db.example/x", "postgresql://:***@db.example/x"),
        ("postgresql://ann@corp.example:s3cret@db.example/x", "postgresql://ann@corp.example:***@db.example/x"),
        ("postgresql://ann@db.example:5432/x", "postgresql://ann@db.example:5432/x"),
        ("mysql+pymysql://ann:%40%2F@h/x?charset=utf8", "mysql+pymysql://ann:***@h/x?charset=utf8"),
        ("postgresql://h/x?user=ann&password=s3cret&ssl=1", "postgresql://h/x?user=ann&password=***&ssl=1"),
        ("s3://b/x?AWS_SECRET_ACCESS_KEY=s3cret", "s3://b/x?AWS_SECRET_ACCESS_KEY=***"),
        ("http://h/x?token=s3cret&a=b", "http://h/x?token=***&a=b"),
        ("http://h/x?api_key=s3cret;sig=s3cret", "http://h/x?api_key=***;sig=***"),
        ("http://h/x?sslpassphrase=s3cret&pwd=s3cret", "http://h/x?sslpassphrase=***&pwd=***"),
        (
            "http://h/x?X-Amz-Credential=s3cret&X-Amz-Signature=s3cret",
            "http://h/x?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
    ],
)
def test_secrets_are_stars(url: str, shown: str) -> None:
    """Passwords of users, and options that hold passwords, tokens and keys; nothing else is hidden."""
    assert redacted(url) == shown


@given(
    st.text("abcdefgh0123456789!$%^&*()_+-=[]{}|;:'\",<.>/?`~@# ", min_size=8),
    st.sampled_from(["postgresql", "mysql+pymysql"]),
)
def test_no_password_is_ever_shown(password: str, name: str) -> None:
    """Whatever characters people put into a password, escaped or not."""
    assert password not in redacted(f"{name}://ann:{password}@host.example/base")


def test_text_of_others_loses_the_secrets_of_the_url() -> None:
    """What a driver says about a connection may hold the password, as it was or decoded."""
    url = "postgresql://ann:s3%40cret@h/x?token=abcdef"

    said = without_secrets(f"no connection to {url} (password 's3@cret', token abcdef, user ann)", url)

    assert said == "no connection to postgresql://ann:***@h/x?token=*** (password '***', token ***, user ann)"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:a.db", "sqlite"),
        ("postgresql+psycopg://h/x", "postgresql+psycopg"),
        ("a-b.c:", "a-b.c"),
        ("results.db", None),
        ("/a:b", None),
        (":a", None),
        ("", None),
    ],
)
def test_name_stands_before_the_colon(url: str, name: str | None) -> None:
    """As in any URL."""
    assert name_of(url) == name


def test_path_of_a_file_is_absolute(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder of now, so that a later change of folder moves nothing; ~ is the home folder."""
    monkeypatch.setenv("HOME", "/home/ann")

    paths = {url: FileUrl.parse(url, OPTIONS).path for url in (
        "sqlite:a b%20c.db", "sqlite:x/../a.db", "sqlite:/b/c.db", "sqlite:///b/c.db?synchronous=full", "sqlite:~/d.db"
    )}  # fmt: skip

    assert list(map(str, paths.values())) == [
        f"{own_folder}/a b%20c.db",
        f"{own_folder}/a.db",
        "/b/c.db",
        "/b/c.db",
        "/home/ann/d.db",
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:", "sqlite:: It names no file. Write sqlite:PATH, or sqlite:///ABSOLUTE/PATH."),
        ("sqlite://", "sqlite://: It names no file. Write sqlite:PATH, or sqlite:///ABSOLUTE/PATH."),
        ("sqlite:a/", "sqlite:a/: It names no file. Write sqlite:PATH, or sqlite:///ABSOLUTE/PATH."),
        ("sqlite://a.db", "sqlite://a.db: A path after // is absolute. Write sqlite:a.db, or sqlite:///a.db."),
        ("sqlite:a?sync=1", "sqlite:a?sync=1: There is no option 'sync'. There is: synchronous."),
        ("sqlite:a?synchronous=yes", "sqlite:a?synchronous=yes: synchronous must be normal or full."),
    ],
)
def test_wrong_url_says_what_to_write(url: str, said: str) -> None:
    """A SinkError before anything is opened."""
    with pytest.raises(SinkError) as caught:
        FileUrl.parse(url, OPTIONS)
    assert str(caught.value) == said


def test_option_of_a_sink_without_options_is_refused() -> None:
    """With words that are right for none, too."""
    with pytest.raises(SinkError, match=re.escape("csv:a?x=1: There is no option 'x'. This sink has none.")):
        FileUrl.parse("csv:a?x=1", {})
