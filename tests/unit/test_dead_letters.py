"""Dead letters: what they keep of a record, and what is sent again of it."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from agents.cli import dead_letters
from schemas.dead_letters import HEADERS_CAP, LEFT_OUT, PREFIX, DeadLetter, given_headers, origin_of
from schemas.requests import UNREADABLE_NAME, Headers
from tests.unit.small import TEXT

GIVEN: Headers = [
    ("traceparent", b"00-1-2-01"),
    ("budget-ms", b"150"),
    ("tenant", b"\xff"),
    ("tenant", None),
    ("reply-to", b"small.replies.one"),
]


def letter(given: Headers | None, error: str = "Malformed", topic: str = "small.raw") -> Headers:
    """The headers of a dead letter of this record."""
    return DeadLetter(topic, 0, 7, "router", error, "no JSON", given=given).headers()


def test_a_record_keeps_its_own_headers_in_their_order_and_only_these_are_given_back():
    assert given_headers(letter(GIVEN)) == GIVEN
    assert given_headers(letter(None)) == []
    assert origin_of(letter(GIVEN)) == ("small.raw", 0, 7)


def test_a_header_that_passes_for_a_dead_letters_own_is_not_kept():
    forged = [(f"{PREFIX}topic", b"other.raw"), (f"{PREFIX}offset", b"1"), *GIVEN]
    assert origin_of(letter(forged)) == ("small.raw", 0, 7)
    assert given_headers(letter(forged)) == GIVEN


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([(UNREADABLE_NAME, None)], "not UTF-8"),
        ([("large", b"x" * (HEADERS_CAP - 4))], f"{HEADERS_CAP + 1} bytes"),
    ],
)
def test_headers_that_cannot_be_kept_are_said_to_be_missing(given: Headers, why: str):
    headers = letter(given)
    assert given_headers(headers) == []
    assert why in dict(headers)[PREFIX + LEFT_OUT].decode()  # type: ignore[union-attr]
    assert given_headers(letter([("large", b"x" * (HEADERS_CAP - 5))]))


class Kept:
    """One dead letter."""

    def __init__(self, headers: Headers) -> None:
        self.headers = lambda: headers
        self.value, self.key = (lambda: b"{"), (lambda: b"k")
        self.partition = self.offset = lambda: 0


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        (letter(GIVEN), None),
        (letter(None), None),
        (letter([(UNREADABLE_NAME, None)]), "its headers are not here (the name of one is not UTF-8)"),
        (letter(GIVEN, error="replay"), "would pass as live"),
        (letter(GIVEN, topic="small.scores"), "only raw records"),
    ],
)
def test_a_request_is_sent_again_with_what_it_came_with_or_not_at_all(
    headers: Headers, says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dead_letters, "_all", lambda *_: iter([Kept(headers)]))
    monkeypatch.setattr(dead_letters.place, "cluster_to_ask", lambda _: None)
    monkeypatch.setattr(dead_letters, "send_confirmed", lambda _, *record: sent.append(record))
    (tmp_path / "p.toml").write_text(TEXT)
    words = ["retry", "0/0", "-P", str(tmp_path / "p.toml")]
    found = CliRunner().invoke(dead_letters.dead_letters, words, standalone_mode=False)
    if says is None:
        assert found.exception is None, found.exception
        assert sent == [("small.raw", b"{", b"k", given_headers(headers))]
    else:
        assert isinstance(found.exception, click.ClickException)
        assert says in found.exception.message
        assert sent == []
