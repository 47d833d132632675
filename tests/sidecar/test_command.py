"""Does `autoscaler sidecar` refuse what it cannot do, and do what it says with a leader?"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from autoscaler.apps.server import Server
from autoscaler.apps.states import States, add_states
from autoscaler.commands.sidecar import sidecar
from autoscaler.refusal import Refusal
from tests.sidecar import states

OPTIONS: dict[str, Any] = {
    "states": ("http://127.0.0.1:9/v1/state/a/b",),
    "listen": "127.0.0.1:0",
    "workers": 1,
    "secret_file": None,
    "ca_file": None,
    "predictions": False,
    "connections": 100,
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"states": ("chat/llama",)}, "--state 'chat/llama': must be an address like http://HOST:PORT/v1/state/NAMESPACE/NAME"),
        ({"states": ("http://x:y/",)}, "--state 'http://x:y/': must be an address"),
        ({"states": ("file:///etc/passwd",)}, "--state 'file:///etc/passwd': must be an address"),
        ({"listen": "localhost"}, "--listen 'localhost': must be an IP address and a port"),
        ({"listen": "127.0.0.1:99999"}, "--listen '127.0.0.1:99999': must be an IP address and a port"),
        ({"secret_file": Path("nowhere")}, "--secret-file nowhere: no such file"),
        ({"ca_file": Path("nowhere")}, "--ca-file nowhere: no such file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Refusal) as caught:
        sidecar(**{**OPTIONS, **changes})
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.slow  # a process
def test_a_sidecar_enforces_what_its_leader_says_and_lets_everybody_in_when_that_falls_silent(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    published, app = States(b"open sesame"), FastAPI()
    add_states(app, published)
    content = {**json.loads(states.text(full=True)), "crowds": states.FULL}
    leader = Server(app, "127.0.0.1", 0, published.let_go)
    command = [sys.executable, "-m", "autoscaler", "sidecar", "--listen", "127.0.0.1:0", "--secret-file", str(secret)]
    command += ["--state", f"{leader.url}v1/state/{states.FLEET}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = process.stderr.readline().split()[-1]
            assert _status(url) == 200, "no state yet"
            seen: list[int] = []
            while 429 not in seen and len(seen) < 50:
                published.publish(content)
                time.sleep(0.1)
                seen.append(_status(url))
            assert seen[-1] == 429
            leader.stop()
            time.sleep(2.5)
            assert _status(url) == 200
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}v1/decide", b'{"prompt_tokens": 900}', timeout=3) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
