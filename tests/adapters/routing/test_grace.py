"""Is a grace period that is too short for the requests in a pod told, and one that is not left in peace?"""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.adapters.routing import Stopping, complaints, stopping


def container(*args: str, **pre_stop: Any) -> dict[str, Any]:
    return {"command": ["serve"], "args": list(args)} | ({"lifecycle": {"preStop": pre_stop}} if pre_stop else {})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, Stopping(30.0, 0.0, 0.0)),
        ({"terminationGracePeriodSeconds": 0}, Stopping(0.0)),
        ({"containers": [container("--shutdown-timeout", "45", sleep={"seconds": 15})]}, Stopping(30.0, 15.0, 45.0)),
        ({"containers": [container("--shutdown-timeout=45.5")]}, Stopping(30.0, 0.0, 45.5)),
        ({"containers": [container(exec={"command": ["/bin/sh", "-c", "sleep 20 && curl x"]})]}, Stopping(30.0, 20.0)),
        ({"containers": [container(httpGet={"path": "/drain"}), container(sleep={"seconds": 5})]}, Stopping(30.0, 5.0)),
        ({"containers": [{"name": "engine", "args": ["vllm serve x --shutdown-timeout 7"]}]}, Stopping(30.0, 0.0, 7.0)),
    ],
)
def test_a_pods_end_is_read_from_its_spec(spec: dict[str, Any], expected: Stopping) -> None:
    assert stopping(spec) == expected


@pytest.mark.parametrize(
    ("engine", "found", "told"),
    [
        ("vllm", Stopping(660.0), ["vLLM aborts requests in flight"]),
        ("vllm", Stopping(660.0, 15.0, 600.0), []),
        ("vllm", Stopping(660.0, 60.0, 600.0), ["is killed before its --shutdown-timeout of 600 s is over"]),
        ("vllm", Stopping(60.0, 15.0, 45.0), ["is killed before", "has 45 s for requests that may take 600 s"]),
        ("vllm", Stopping(), ["vLLM aborts", "has 30 s"]),
        ("sglang", Stopping(), ["decode: terminationGracePeriodSeconds 30, preStop 0 s: a deleted pod has 30 s"]),
        ("sglang", Stopping(20.0, 30.0), ["has 0 s"]),
        ("sglang", Stopping(615.0, 15.0), []),
    ],
)
def test_what_a_deleted_pod_would_lose_is_told_in_one_line_each(engine: str, found: Stopping, told: list[str]) -> None:
    lines = list(complaints("decode", engine, found, 600.0))
    assert len(lines) == len(told)
    assert all(words in line for words, line in zip(told, lines, strict=True))
