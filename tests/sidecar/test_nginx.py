"""Does nginx with the documented configuration turn away, let in, and stay open without us?

Of manifests/examples/gateways/nginx.conf only the addresses are replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoscaler.sidecar.ledger import Ledger
from tests.sidecar.gateways import CHAT, FAIL, GATEWAYS, NOBODY, ask, engine, free_port, wait_for
from tests.sidecar.running import running

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
WRAPPED = """
{user} daemon off; worker_processes 1; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  include {folder}/site.conf;
}}
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="no nginx: apt-get install nginx-light")]


@contextmanager
def nginx(folder: Path, sidecar: int) -> Iterator[int]:
    """The documented configuration between a client and an engine; its port."""
    assert NGINX is not None
    port = free_port()
    with engine() as engine_port:
        site = (GATEWAYS / "nginx.conf").read_text(encoding="utf-8")
        places = {"vllm.chat.svc:8000": engine_port, "pd-early-rejection.pd-autoscaler.svc:8090": sidecar, "listen 8080": port}
        for written, found in places.items():
            assert site.count(written) == 1
            site = site.replace(written, f"{'listen ' if 'listen' in written else ''}127.0.0.1:{found}")
        (folder / "site.conf").write_text(site)
        (folder / "nginx.conf").write_text(WRAPPED.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
        command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        with subprocess.Popen(command) as process:
            try:
                wait_for(port)
                yield port
            finally:
                process.terminate()


def _verdicts(ledger: Ledger) -> int:
    return sum(ledger.verdicts.values())


def test_a_full_fleet_is_429_with_everything_a_client_needs(tmp_path: Path) -> None:
    with running(full=True) as (sidecar, ledger), nginx(tmp_path, sidecar) as port:
        status, headers, body = ask(port)
        asked = _verdicts(ledger)
        _, batch, _ = ask(port, headers={"x-tier": "batch"})
    assert (status, asked) == (429, 1)
    assert headers["content-type"] == "application/json"
    assert 1 <= int(headers["retry-after"]) <= 30
    assert int(headers["retry-after-ms"]) <= 30_000
    assert headers["x-pda-reject-reason"] == "ttft"
    assert json.loads(body)["error"]["code"] == "ttft"
    assert headers.get("x-should-retry") is None
    assert batch["x-should-retry"] == "false"


def test_a_fleet_with_room_gets_the_request_whole(tmp_path: Path) -> None:
    with running() as (sidecar, ledger), nginx(tmp_path, sidecar) as port:
        status, _, body = ask(port)
        assert (status, body, _verdicts(ledger)) == (200, CHAT, 1)
        assert ask(port, b"x" * 3_000_000)[0] == 200


def test_without_a_sidecar_everybody_is_let_in(tmp_path: Path) -> None:
    with nginx(tmp_path, NOBODY) as port:
        status, _, body = ask(port)
    assert (status, body) == (200, CHAT)


def test_a_prompt_is_judged_by_its_length_and_not_by_what_its_client_says_of_it(tmp_path: Path) -> None:
    with running(full=True) as (sidecar, ledger), nginx(tmp_path, sidecar) as port:
        ask(port, b"x" * 40_000, {"x-pda-content-length": "8", "x-pda-prompt-tokens": "2"})
    assert ledger.rejected_tokens == {"standard": 10_000}


def test_an_error_of_the_engines_own_is_passed_on_and_not_tried_again(tmp_path: Path) -> None:
    with running() as (sidecar, ledger), nginx(tmp_path, sidecar) as port:
        assert ask(port, FAIL)[::2] == (500, FAIL)
        assert _verdicts(ledger) == 1
