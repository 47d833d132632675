"""Can a sidecar ask any controller, and does none send it round in circles?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
import requests
from fastapi import FastAPI

from autoscaler.apps import forwarding
from autoscaler.apps.forwarding import FORWARDED, Forwarding, is_place
from autoscaler.apps.server import Server
from autoscaler.apps.states import States, add_states, nobody
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.feed import Feed, Source
from tests.apps.test_states import CONTENT
from tests.sidecar.states import STATE_PATH

SECRET = b"open-sesame"
SHOWN = {"authorization": f"Bearer {SECRET.decode()}"}


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("http://10.0.0.7:8081", True),
        ("http://[fd00::7]:8081", True),
        ("", False),
        ("http://10.0.0.7", False),
        ("https://10.0.0.7:8081", False),
        ("http://evil.example:8081", False),
        ("http://10.0.0.7:8081/path", False),
        ("http://me@10.0.0.7:8081", False),
        ("http://10.0.0.7:99999", False),
        ("http://[10.0.0.7:1", False),
    ],
)
def test_only_an_address_of_a_pod_is_asked(address: str, is_one: bool) -> None:
    assert is_place(address) is is_one


@contextmanager
def controller(states: States, leader: str | None = None) -> Iterator[str]:
    app = FastAPI()
    add_states(app, states, nobody if leader is None else Forwarding(lambda: leader))
    server = Server(app, "127.0.0.1", 0, states.let_go)
    try:
        yield server.url.rstrip("/")
    finally:
        server.stop()


def following() -> States:
    states = States(SECRET)
    states.lead(None)
    return states


@pytest.mark.slow  # servers
def test_a_sidecar_that_asks_a_follower_hears_the_leader_signed_and_as_soon_as_it_speaks(tmp_path: Path) -> None:
    secret, board, states = tmp_path / "secret", Board(), States(SECRET)
    secret.write_bytes(SECRET)
    with controller(states) as leader, controller(following(), leader) as follower:
        url = f"{follower}{STATE_PATH}"
        feed = Feed(Source((url,), secret), board)
        later = Timer(0.2, states.publish, [CONTENT])
        later.start()
        began_s = time.monotonic()
        assert feed.poll(url)
        assert time.monotonic() - began_s < 10, "and not at the end of the poll"
        assert board.picture is not None
        assert board.picture.standing.trusted


@pytest.mark.slow  # servers
def test_the_leaders_no_is_passed_on_and_strangers_are_not() -> None:
    with controller(States(SECRET)) as leader, controller(following(), leader) as follower:
        assert requests.get(f"{follower}{STATE_PATH}", headers=SHOWN, timeout=5).status_code == 404
        assert requests.get(f"{follower}{STATE_PATH}", timeout=5).status_code == 401


@pytest.mark.slow  # servers
def test_followers_do_not_ask_each_other_for_ever() -> None:
    first = following()
    with controller(first) as one, controller(following(), one) as other:
        answer = requests.get(f"{other}{STATE_PATH}", headers=SHOWN, timeout=5)
        assert answer.status_code == 503
    with controller(following(), "http://127.0.0.1:9") as alone:
        assert requests.get(f"{alone}{STATE_PATH}", headers=SHOWN, timeout=5).status_code == 502
        assert requests.get(f"{alone}{STATE_PATH}", headers={**SHOWN, FORWARDED: "1"}, timeout=5).status_code == 503


@pytest.mark.slow  # servers
def test_who_does_not_know_a_leader_says_so() -> None:
    with controller(following(), "") as url:
        answer = requests.get(f"{url}{STATE_PATH}", headers=SHOWN, timeout=5)
    assert (answer.status_code, "does not lead" in answer.text) == (503, True)


@pytest.mark.slow  # servers
def test_no_more_wait_at_once_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "MOST", 0)
    with controller(States(SECRET)) as leader, controller(following(), leader) as follower:
        assert requests.get(f"{follower}{STATE_PATH}", headers=SHOWN, timeout=5).status_code == 503
