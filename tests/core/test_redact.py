"""S10: a password is masked in whatever form libpq accepts it, and in running text."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito_core.redact import mask_text, mask_url

MASKED = [
    ("postgresql://u:hunter2@h:5432/db", "postgresql://u:***@h:5432/db"),
    ("postgresql://u:hunter2@h1:1,h2:2/db?target_session_attrs=any", None),
    ("postgresql://u:hunter2@[::1]:5432/db", "postgresql://u:***@[::1]:5432/db"),
    ("postgresql://:hunter2@h/db", "postgresql://:***@h/db"),
    ("postgresql://u:hun@ter2@h/db", "postgresql://u:***@h/db"),
    ("postgresql://u:hunter2/x@h/db", "postgresql://u:***@h/db"),
    ("postgresql://u:hunter2?x=1@h/db", "postgresql://u:***@h/db"),
    ("postgresql://u:hunter2#x@h/db", "postgresql://u:***@h/db"),
    ("postgresql://u:p:hunter2@h/db", "postgresql://u:***@h/db"),
    ("postgresql://u@h/db?password=hunter2", "postgresql://u@h/db?password=***"),
    ("postgresql://u@h/db?password=a@hunter2", "postgresql://u@h/db?password=***"),
    ("postgresql://u@h/db?password=a&hunter2", "postgresql://u@h/db?password=***"),
    ("postgresql://u@h/db?user=x&password=hunter2&sslmode=require", None),
    ("postgresql://h/db?PASSWORD=hunter2", "postgresql://h/db?PASSWORD=***"),
    ("postgresql://h/db?pass%77ord=hunter2", "postgresql://h/db?pass%77ord=***"),
    ("postgresql://h/db?sslpassword=hunter2", "postgresql://h/db?sslpassword=***"),
    ("postgresql:///db?host=/run&password=hunter2", "postgresql:///db?host=/run&password=***"),
    ("postgresql://u:hunter2?password=b@h/db", None),
    ("postgresql//u:hunter2@h/d", "postgresql//u:***@h/d"),
    ("postgresql:/u:hunter2@h/d", None),
    ("u:hunter2@h", "u:***@h"),
    ("host=h password=hunter2 dbname=d", "host=h password=*** dbname=d"),
    ("host=h password = hunter2 dbname=d", "host=h password = *** dbname=d"),
    ("password='hunter2 two' host=h", "password=*** host=h"),
    (r"password='hun\'ter2' host=h", "password=*** host=h"),
    (r"password=x\ hunter2 host=h", "password=*** host=h"),
    ("password='never closed hunter2", "password=***"),
    ("password=not quoted hunter2 host=h", "password=*** host=h"),
    ("sslpassword=hunter2", "sslpassword=***"),
    ("dbname=postgresql://u:hunter2@h/db", "dbname=postgresql://u:***@h/db"),
    ("redis://:hunter2@h:6379/0", "redis://:***@h:6379/0"),
]


@pytest.mark.parametrize(("url", "masked"), MASKED)
def test_no_form_of_a_connection_string_shows_its_password(url: str, masked: str | None) -> None:
    shown = mask_url(url)

    assert "hunter2" not in shown
    assert "hun" not in shown.replace("***", "")
    assert masked is None or shown == masked


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h:5432/db",
        "postgresql://u@h:5432,h2:5433/db?connect_timeout=3&passfile=/x",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://[::1]:5432/db",
        "host=h dbname=d passfile=/home/u/.pgpass sslkey=/k",
        "sqlite:////abs/path.db",
        "memory://",
        "postgres",
        "",
    ],
)
def test_what_holds_no_password_is_shown_as_it_is(url: str) -> None:
    assert mask_url(url) == url


# Text that does not appear in the rest of the URLs below, so that finding it means a leak.
passwords = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).map(
    lambda text: f"Q{text}Q"
)


@given(passwords)
def test_any_password_in_a_url_is_hidden_escaped_or_not(password: str) -> None:
    for written in (password, quote(password), quote(password, safe="")):
        shown = mask_url(f"postgresql://user:{written}@host:5432/name?sslmode=require")

        assert "Q" not in shown
        assert shown.startswith("postgresql://user:***@")


@given(passwords)
def test_any_password_in_a_parameter_is_hidden(password: str) -> None:
    shown = mask_url(f"postgresql://user@host/name?password={quote(password, safe='')}&sslmode=require")

    assert shown == "postgresql://user@host/name?password=***&sslmode=require"


@given(passwords)
def test_any_password_in_a_key_value_string_is_hidden(password: str) -> None:
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")

    assert mask_url(f"host=h password='{quoted}' user=u") == "host=h password=*** user=u"


@given(st.text(max_size=60))
def test_nothing_raises_on_garbage(text: str) -> None:
    mask_url(text)
    mask_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to postgresql://u:hunter2@h/db: no route",
        "config=StorageConfig(db_url='postgresql://u:hun'ter2@h/db', schema='x')",
        "connection string 'host=h password=hunter2 dbname=x' is wrong",
        "connection string \"host=h password='hunter2 two' dbname=x\" is wrong",
        "Queue(password='hunter2')",
        "two: redis://:hunter2@a and postgresql://b:hunter2@c/d",
    ],
)
def test_running_text_keeps_no_password(text: str) -> None:
    shown = mask_text(text)

    assert "hunter2" not in shown
    assert "ter2" not in shown
    assert "***" in shown


def test_running_text_without_a_password_is_left_alone() -> None:
    text = "job 12 = done, see https://example.org/a?b=c (took 3 s)"

    assert mask_text(text) == text
