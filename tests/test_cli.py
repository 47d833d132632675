"""What do the commands do as a user types them? Each runs as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a process each

CHAT = str(Path(__file__).parents[1] / "policies" / "chat.yaml")
CLUSTERS = "kubernetes, kubernetes:CONTEXT, sim:http://HOST:PORT"
ADDRESSES = "IPV4:PORT or [IPV6]:PORT, the port 0 (any free one) to 65535"
NOWHERE = ["--prometheus", "http://127.0.0.1:1", "--cluster", "sim:http://127.0.0.1:1"]
PATIENCE_S = 60


def autoscaler(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoscaler", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def refused(*arguments: str) -> str:
    """The last line of a refusal: exit code 2, nothing on standard output, no traceback."""
    done = autoscaler(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_headless_demo_ends_with_a_summary_that_accounts_for_every_request() -> None:
    done = autoscaler("demo", "--headless", "--duration", "2", "--speed", "600", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["requests_lost"] == 0
    assert summary["requests_offered"] >= summary["requests_served"] > 1000
    assert 0.5 < summary["slo_attainment"] <= 1
    assert summary["gpu_hours"] == pytest.approx(sum(summary["gpu_hours_by_role"].values()))
    assert summary["actions"] >= 1
    assert summary["reversals"] <= summary["actions"]


def test_a_demo_of_a_trace_ends_when_the_trace_does(tmp_path: Path) -> None:
    rows = [f"2023-11-16 18:15:{second:02}.0000000,{200 + second},20" for second in range(40)]
    trace = tmp_path / "short.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows))
    done = autoscaler("demo", "--headless", "--trace", str(trace), "--speed", "600", "--json")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["requests_offered"], summary["requests_served"]) == (40, 40)


def test_the_demo_says_where_its_page_is_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "autoscaler", "demo", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", demo.stderr.readline())
        assert address is not None
        demo.send_signal(signal.SIGTERM)
        out, err = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, err
    assert json.loads(out)["requests_lost"] == 0


def test_a_port_in_use_is_one_clear_line(taken_port: int) -> None:
    line = refused("demo", "--port", str(taken_port), "--duration", "5")
    assert line == f"autoscaler: port {taken_port} on 127.0.0.1 is in use; choose another one, or 0 for any that is free"


def test_a_malformed_trace_is_refused_before_anything_runs_with_its_line(tmp_path: Path) -> None:
    trace = tmp_path / "bad.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n2023-11-16 18:15:47,x,4\n")
    line = refused("demo", "--headless", "--trace", str(trace))
    assert line == f"autoscaler: {trace} line 3: ContextTokens 'x' is not a whole number 1..10000000"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["demo", "--sped", "9"], "Error: No such option '--sped'. (Did you mean one of: '--seed', '--speed'?)"),
        (["demoo"], "Error: No such command 'demoo'. Did you mean 'demo'?"),
        (["demo", "--speed", "0"], "Error: Invalid value for '--speed': 0.0 is not in the range 0.1<=x<=10000."),
        (["demo", "--trace", "/no/such"], "autoscaler: /no/such: cannot be read: No such file or directory"),
        (["check", "/no/such.yaml"], "autoscaler: /no/such.yaml: cannot be read: no such file or directory"),
        (
            ["preflight", "--policy", CHAT, "--prometheus", "http://127.0.0.1:1"],
            "autoscaler: --prometheus http://127.0.0.1:1: [Errno 111] Connection refused",
        ),
        (
            ["tick", "--policy", CHAT, "--prometheus", "ftp://x", "--cluster", "sim:http://127.0.0.1:1"],
            "autoscaler: prometheus 'ftp://x': must be http(s)://HOST[:PORT][/PATH]",
        ),
        (
            ["run", "--policy", CHAT, "--prometheus", "http://127.0.0.1:1", "--cluster", "moon"],
            "autoscaler: --cluster 'moon': not a cluster this version knows (allowed: " + CLUSTERS + ")",
        ),
        (
            ["run", "--policy", CHAT, *NOWHERE, "--header", "X-Scope-OrgID"],
            "autoscaler: --header 'X-Scope-OrgID': must be NAME=VALUE",
        ),
        (
            ["run", "--policy", CHAT, *NOWHERE, "--lease", "ops/leader"],
            "autoscaler: --lease ops/leader: only --cluster kubernetes has Leases, not 'sim:http://127.0.0.1:1'",
        ),
        (
            ["run", "--policy", CHAT, *NOWHERE, "--lease", "Leader"],
            "autoscaler: --lease 'Leader': must be NAMESPACE/NAME in lower-case letters, digits and '-'",
        ),
        (
            ["run", "--policy", CHAT, "--namespace", "models", *NOWHERE],
            "autoscaler: --namespace: says where PDAutoscaler objects are; with --policy the policies are files",
        ),
        (
            ["run", *NOWHERE, "--port", "0"],
            "autoscaler: --cluster sim:http://127.0.0.1:1: without --policy the policies are objects of a Kubernetes cluster",
        ),
        (
            ["tick", *NOWHERE, "--act"],
            "autoscaler: --act: PDAutoscaler objects are acted on by the controller that leads; a tick of them only tells",
        ),
        (
            ["run", "--policy", CHAT, *NOWHERE, "--port", "0", "--listen", "localhost"],
            "autoscaler: --listen 'localhost': must be an IP address and a port (allowed: " + ADDRESSES + ")",
        ),
        (
            ["fleet", "--policy", CHAT, "--initial", "prefil=2"],
            "autoscaler: --initial 'prefil=2': must be ROLE=N with ROLE one of prefill, decode and N a whole number",
        ),
        (
            ["fleet", "--policy", CHAT, "--targets-file", "/no/such/targets.json"],
            "autoscaler: --targets-file /no/such/targets.json: cannot be written: no such file or directory",
        ),
    ],
    ids=lambda value: " ".join((value[0], *value[-2:])) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_line(arguments: list[str], told: str) -> None:
    assert refused(*arguments) == told


@pytest.mark.parametrize("command", ["run", "tick"])
def test_a_cluster_without_a_kubeconfig_is_one_clear_line(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/no/such")
    line = refused(command, "--policy", CHAT, "--prometheus", "http://127.0.0.1:1", "--cluster", "kubernetes")
    told = "autoscaler: --cluster kubernetes: KUBECONFIG /no/such: Invalid kube-config file. No configuration found."
    assert line == told


def test_only_a_real_cluster_pays_for_its_client() -> None:
    program = "import sys, autoscaler.commands.run; print('kubernetes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stdout.strip() == "False"


def test_check_names_every_mistake_at_once_with_its_line(tmp_path: Path) -> None:
    text = Path(CHAT).read_text().replace("gpuBudget: 24", "gpuBudget: 0").replace("mode: Recommend", "mode: Auot")
    policy = tmp_path / "broken.yaml"
    policy.write_text(text)
    done = autoscaler("check", CHAT, str(policy))
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2, lines
    for line, field in zip(lines, ("spec.mode", "spec.gpuBudget"), strict=True):
        assert re.search(rf"{re.escape(str(policy))}:\d+: {re.escape(field)}: ", line), line


def test_check_says_ok_to_the_examples_in_json_too() -> None:
    done = autoscaler("check", "--json", CHAT)
    assert json.loads(done.stdout)["policies"] == [{"policy": "default/chat", "mode": "Recommend", "warnings": []}]


def test_a_tick_without_a_cluster_holds_and_says_why() -> None:
    done = autoscaler("tick", "--policy", CHAT, *NOWHERE, "--json")
    assert done.returncode == 0
    (status,) = json.loads(done.stdout)
    assert status["actions"] == []
    assert status["conditions"][0]["reason"] == "FleetUnreadable"


def test_explain_without_a_controller_says_what_to_start() -> None:
    line = refused("explain", "--url", "http://127.0.0.1:1")
    assert line.startswith("autoscaler: --url http://127.0.0.1:1: no controller answers there")


def test_help_names_every_command_without_loading_what_it_needs() -> None:
    probe = "import sys; from autoscaler.cli import cli; sys.exit(any(m in sys.modules for m in ('pydantic', 'fastapi', 'rich')))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    told = autoscaler("--help").stdout
    assert all(command in told for command in ("check", "demo", "explain", "fleet", "run", "tick"))
