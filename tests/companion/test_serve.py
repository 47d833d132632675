"""Does `autoscaler serve` refuse what it cannot do, and do what it says with an API server? A process of its own."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autoscaler.commands.serve import serve
from autoscaler.companion.certificates import told_by
from autoscaler.companion.serving import LEAVE_S
from autoscaler.refusal import Refusal
from tests.companion.api_server import API_SERVICE, MAPS, POLICIES, SECRET, SLOW_S, TOKENS, ApiServer, running
from tests.companion.policies import policy
from tests.companion.proxies import Client, Signer, made
from tests.companion.test_tls import DISCOVERY, HPA, WANTED, config_map

OPTIONS: dict[str, Any] = {
    "cluster": "kubernetes",
    "namespaces": (),
    "listen": "127.0.0.1:0",
    "keda_listen": None,
    "keda_token_file": None,
    "cert": None,
    "key": None,
    "service": "pd-autoscaler-companion",
    "direct_callers": False,
    "guard": "warn",
    "early_reject": "warn",
    "allowed": (),
}
PATIENCE_S = 20.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cluster": "sim:http://x"}, "--cluster 'sim:http://x': must be kubernetes or kubernetes:CONTEXT"),
        ({"namespaces": ("Prod",)}, "--namespace 'Prod': must be 1 to 63 of a-z, 0-9 and -"),
        ({"service": "a.b"}, "--service 'a.b': must be 1 to 63"),
        ({"listen": "0.0.0.0"}, "--listen '0.0.0.0': must be an IP address and a port"),
        ({"cert": Path("nowhere"), "key": Path("nowhere")}, "--cert nowhere: no such file"),
        ({"cert": Path(__file__)}, "--cert and --key: one is not enough"),
        ({"keda_token_file": Path("nowhere")}, "--keda-token-file nowhere: no such file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Refusal) as caught:
        serve(**{**OPTIONS, **changes})
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Process:
    process: subprocess.Popen[str]
    port: int
    keda_port: int
    log: Path

    def get(self, trusts: bytes, path: str, shows: Path | None, **headers: str) -> tuple[int, Any]:
        """What is answered on a connection of its own."""
        with closing(Client(self.port, trusts, shows)) as client:
            return client.get(path, **headers)

    def ready(self, trusts: bytes) -> str:
        """What /readyz says, once it says `ok` or PATIENCE_S are over."""
        ends = time.monotonic() + PATIENCE_S
        while (found := self.get(trusts, "/readyz", None))[0] != 200 and time.monotonic() < ends:
            time.sleep(0.05)
        return str(found[1])


@contextmanager
def companion(api: ApiServer, folder: Path, *options: str) -> Iterator[Process]:
    log = folder / "log"
    command = [sys.executable, "-m", "autoscaler", "serve", "--listen", "127.0.0.1:0", "--keda-listen", "127.0.0.1:0", *options]
    environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig(folder))}
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, text=True, env=environment)
    try:
        ends = time.monotonic() + PATIENCE_S
        while len(ports := re.findall(r"companion: https?://127.0.0.1:(\d+)/", log.read_text())) < 2:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.02)
        yield Process(process, int(ports[0]), int(ports[1]), log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with running() as found:
        yield found


@pytest.fixture
def signer(api: ApiServer) -> Signer:
    found = Signer.of("front-proxy-ca")
    api.lists[MAPS] = [{"metadata": {"name": "extension-apiserver-authentication"}, "data": config_map(found)}]
    told = policy()
    told["status"]["lastTick"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    api.lists[POLICIES] = [told]
    return found


def files(folder: Path) -> tuple[bytes, tuple[str, ...]]:
    """A certificate's authority, and the options that name its files."""
    served = made()
    (folder / "tls.crt").write_bytes(served.pair.certificate)
    (folder / "tls.key").write_bytes(served.pair.key)
    return served.authority, ("--cert", str(folder / "tls.crt"), "--key", str(folder / "tls.key"))


@pytest.mark.slow  # a process
def test_it_answers_until_it_is_asked_to_end_and_then_leaves_in_good_order(
    api: ApiServer, signer: Signer, tmp_path: Path
) -> None:
    authority, options = files(tmp_path)
    with companion(api, tmp_path, *options) as found, ExitStack() as held:
        assert found.ready(authority) == "ok\n"
        client = Client(found.port, authority, signer.signs(tmp_path, "front-proxy-client"))
        held.callback(client.close)
        status, body = client.get(WANTED, **HPA)
        assert (status, body["items"][0]["value"]) == (200, "7")
        with urllib.request.urlopen(f"http://127.0.0.1:{found.keda_port}/keda/v1/default/chat/decode", timeout=5) as answer:
            assert json.load(answer)["value"] == 7
        assert f'requests_total{{code="200",route="{DISCOVERY}"}}' not in client.get("/metrics")[1]
        assert client.get(DISCOVERY)[0] == 200
        assert f'requests_total{{code="200",route="{DISCOVERY}"}} 1.0' in client.get("/metrics")[1]
        rss = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{found.process.pid}/status").read_text())
        assert rss is not None
        assert int(rss[1]) < 95_000  # kB; 79,000 where this was written
        began = time.monotonic()
        found.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        status, text = client.get("/readyz")  # still answered, on a connection that is then given back
        assert (status, text) == (503, "this process is about to end\n")
        assert found.get(authority, DISCOVERY, None)[0] == 200
        assert found.process.wait(10) == 0
        assert 3 <= time.monotonic() - began < 10
        assert "Traceback" not in found.log.read_text()


@pytest.mark.slow  # a process
def test_without_an_api_server_that_answers_nothing_is_told_for_true(api: ApiServer, tmp_path: Path) -> None:
    authority, options = files(tmp_path)
    api.lists.clear()
    with companion(api, tmp_path, *options) as found:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            found.get(authority, DISCOVERY, Signer.of("anybody").signs(tmp_path, "front-proxy-client"))
        assert found.get(authority, WANTED, None, **HPA)[0] == 401
        status, text = found.get(authority, "/readyz", None)
        assert status == 503
        assert "their CRD is not installed" in text
        assert "no caller is believed" in text
        assert found.get(authority, "/healthz", None) == (200, "ok\n")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{found.keda_port}/keda/v1/default/chat/decode", timeout=5)
        assert refused.value.code == 503
        assert json.load(refused.value)["reason"] == "ServiceUnavailable"


@pytest.mark.slow  # two processes
def test_replicas_share_one_certificate_of_their_own_and_make_it_known(api: ApiServer, signer: Signer, tmp_path: Path) -> None:
    api.stores(SECRET, data={})
    api.stores(API_SERVICE, spec={"group": "external.metrics.k8s.io"})
    api.objects[API_SERVICE]["metadata"]["labels"] = {"app.kubernetes.io/name": "pd-autoscaler"}
    with companion(api, tmp_path) as first, companion(api, tmp_path) as second:
        data = api.objects[SECRET]["data"]
        authority = base64.b64decode(data["ca.crt"])
        assert told_by(base64.b64decode(data["tls.crt"])).names >= {"pd-autoscaler-companion.default.svc"}
        assert base64.b64decode(api.objects[API_SERVICE]["spec"]["caBundle"]) == authority
        for one in (first, second):
            with closing(Client(one.port, authority)) as client:
                client.context.check_hostname = False  # it is for the Service's name
                assert client.get(DISCOVERY)[0] == 200


@pytest.mark.slow  # a process
@pytest.mark.parametrize(
    ("headers", "namespace", "expected"),
    [
        ({}, "default", 401),
        ({"Authorization": "Bearer wrong"}, "default", 401),
        ({"Authorization": "Bearer open-sesame"}, "default", 200),
        ({"Authorization": "Bearer open-sesame"}, "other", 403),
    ],
)
def test_direct_callers_are_whom_the_api_server_knows(
    asked: tuple[Process, bytes], headers: Mapping[str, str], namespace: str, expected: int
) -> None:
    found, authority = asked
    assert found.get(authority, WANTED.replace("default", namespace), None, **headers)[0] == expected


@pytest.mark.slow  # a process
def test_a_request_under_way_is_answered_before_the_end(api: ApiServer, signer: Signer, tmp_path: Path) -> None:
    authority, options = files(tmp_path)
    with companion(api, tmp_path, *options, "--direct-callers") as found, ThreadPoolExecutor(1) as hands:
        assert found.ready(authority) == "ok\n"
        asked = hands.submit(found.get, authority, WANTED, None, Authorization="Bearer slow")
        while ("POST", TOKENS) not in api.asked:
            time.sleep(0.01)
        began = time.monotonic()
        found.process.send_signal(signal.SIGTERM)
        assert asked.result(10)[0] == 401
        assert found.process.wait(10) == 0
        assert LEAVE_S < SLOW_S - 0.5 <= time.monotonic() - began < 10


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, bytes]]:
    """A companion that lets direct callers in."""
    folder = tmp_path_factory.mktemp("direct")
    authority, options = files(folder)
    with running() as api:
        told = policy()
        told["status"]["lastTick"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        api.lists[POLICIES] = [told]
        data = config_map(Signer.of("front-proxy-ca"))
        api.lists[MAPS] = [{"metadata": {"name": "extension-apiserver-authentication"}, "data": data}]
        with companion(api, folder, *options, "--direct-callers") as found:
            assert found.ready(authority) == "ok\n"
            yield found, authority


@pytest.mark.slow  # a process
def test_the_companion_starts_without_what_only_the_controller_needs() -> None:
    program = "import sys; import autoscaler.commands.serve; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not {"numpy", "statsmodels", "pandas", "scipy", "prometheus_api_client", "apscheduler"} & set(done.stdout.split())
