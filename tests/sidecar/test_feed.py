"""Does a sidecar hear of the fleet from a real leader, and what does it make of what it hears?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from fastapi import FastAPI, Response

from autoscaler.apps.server import Server, nothing_to_close
from autoscaler.apps.states import States, add_states
from autoscaler.core.rejection import RejectionMode
from autoscaler.sidecar import feed as feeding
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.feed import Feed, Source
from tests.sidecar import states

pytestmark = pytest.mark.slow  # servers
PLACE = ("epoch", "sequence", "issued_at")
CONTENT = {key: value for key, value in states.STATE.items() if key not in PLACE}


@contextmanager
def leader(published: States) -> Iterator[str]:
    app = FastAPI()
    add_states(app, published)
    with serving(app, published.let_go) as url:
        yield f"{url}v1/state/{states.FLEET}"


@contextmanager
def serving(app: FastAPI, closing: Callable[[], None] = nothing_to_close) -> Iterator[str]:
    server = Server(app, "127.0.0.1", 0, closing)
    try:
        yield server.url
    finally:
        server.stop()


def following(url: str, **source: Any) -> tuple[Feed, Board]:
    board = Board()
    return Feed(Source((url,), **source), board), board


def mode(board: Board) -> RejectionMode | None:
    return board.picture.mode if board.picture else None


def test_the_newest_state_comes_at_once_and_the_next_one_as_soon_as_it_is_there() -> None:
    published = States()
    with leader(published) as url:
        feed, board = following(url)
        published.publish(CONTENT)
        assert feed.poll(url)
        assert mode(board) is RejectionMode.ENFORCE
        later = Timer(0.2, published.publish, [{**CONTENT, "rules": {**CONTENT["rules"], "mode": "shadow"}}])
        later.start()
        assert feed.poll(url), "this one waits for it"
        assert mode(board) is RejectionMode.SHADOW
        assert board.picture is not None
        assert board.picture.standing.trusted, "from this machine"


def test_a_poll_without_news_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "WAIT_S", 0.0)
    published = States()
    published.publish(CONTENT)
    with leader(published) as url:
        feed, board = following(url)
        assert feed.poll(url)
        before = board.picture
        assert feed.poll(url)
        assert board.picture is before
        assert feed.trouble == ""


def test_a_fleet_that_the_leader_does_not_know_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "WAIT_S", 0.0)
    with leader(States()) as url:
        feed, board = following(url)
        assert not feed.poll(url)
    assert "HTTP 404" in feed.trouble
    assert board.picture is None


def test_the_secret_lets_in_and_vouches_for_what_is_said(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text("open sesame\n")
    theirs.write_text("guess\n")
    published = States(b"open sesame")
    published.publish(CONTENT)
    with leader(published) as url:
        feed, board = following(url, secret_file=ours)
        assert feed.poll(url)
        assert board.picture is not None
        assert board.picture.standing.trusted
        for source in ({}, {"secret_file": theirs}):
            feed, board = following(url, **source)
            assert not feed.poll(url)
            assert "HTTP 401" in feed.trouble


@pytest.mark.parametrize("signature", ["", "0" * 64, "\u00e9"])
def test_a_state_whose_signature_is_not_the_leaders_is_shown_but_not_trusted(tmp_path: Path, signature: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame")
    app = FastAPI()

    @app.get("/")
    def forged() -> Response:
        return Response(states.text(), headers={"x-pda-signature": signature})

    with serving(app) as url:
        feed, board = following(url, secret_file=secret)
        assert feed.poll(url)
    assert board.picture is not None
    assert not board.picture.standing.trusted


@pytest.mark.parametrize("answer", [b"", b"<html>", states.text()[:-9], b"x" * (1 << 21), states.text(stay_s=-1)])
def test_garbage_for_a_state_changes_nothing_and_is_told(answer: bytes) -> None:
    app = FastAPI()

    @app.get("/")
    def garbage() -> Response:
        return Response(answer)

    with serving(app) as url:
        feed, board = following(url)
        assert not feed.poll(url)
    assert board.picture is None
    assert url in feed.trouble


def test_a_leader_that_is_gone_is_a_fault_that_is_told_and_no_exception() -> None:
    feed, board = following("http://127.0.0.1:9/v1/state/a/b")
    assert not feed.poll("http://127.0.0.1:9/v1/state/a/b")
    assert "NewConnectionError" in feed.trouble
    assert board.picture is None


def test_the_next_address_is_asked_when_one_fails_and_a_later_leader_wins() -> None:
    old, new = States(wall=lambda: 1_000_000.0), States(wall=lambda: 1_000_100.0)
    old.publish(CONTENT)
    new.publish({**CONTENT, "model_name": "new"})
    with leader(new) as second:
        with leader(old) as first:
            board = Board()
            feed = Feed(Source((first, second)), board)
            feed.start()
            _until(lambda: board.picture is not None)
        _until(lambda: board.picture is not None and board.picture.model_name == "new")
        feed.stop()


def _until(holds: Any, patience_s: float = 10.0) -> None:
    ends_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < ends_s, "did not come true"
        time.sleep(0.02)
