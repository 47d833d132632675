"""Are the very bytes that gateways send understood, and is each prompt judged by the length that they tell?

Recorded: Envoy 1.40 with manifests/examples/gateways/envoy.yaml, then with `with_request_body` added to it, wide and narrow. The
HTTP client of Go sent what ForwardAuth of Traefik 3.6 sets, without and with `forwardBody`, in chunks as Go cuts them.
"""

from __future__ import annotations

import pytest

from tests.sidecar.running import exchange, running

pytestmark = pytest.mark.slow  # servers

BODY = b'{"model": "llama", "max_tokens": 50, "messages": [{"role": "user", "content": "' + b"hello " * 20 + b'"}]}'
MEAN = 2000  # tokens of a prompt of unknown length, by tests/sidecar/states.py


def envoy(length: int, *own: bytes) -> bytes:
    """What Envoy sends: `length` is that of the check's own body."""
    lines = (
        b"POST /v1/ext-authz/v1/chat/completions?x=1 HTTP/1.1",
        b"host: 127.0.0.1:18920",
        b"content-length: %d" % length,
        b"authorization: Bearer t",
        *own,
        b"x-stainless-retry-count: 0",
        b"x-llm-d-slo-ttft-ms: 900",
        b"x-pda-content-length: 203",
        b"x-envoy-internal: true",
        b"x-envoy-expected-rq-timeout-ms: 2000",
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


def traefik(*own: bytes) -> bytes:
    lines = (
        b"GET /v1/forward-auth HTTP/1.1",
        b"Host: 127.0.0.1:18931",
        b"User-Agent: Go-http-client/1.1",
        *own,
        b"X-Forwarded-For: 10.0.0.9",
        b"X-Forwarded-Host: llm.example.com",
        b"X-Forwarded-Method: POST",
        b"X-Forwarded-Port: 443",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Uri: /v1/chat/completions",
        b"X-Stainless-Retry-Count: 0",
        b"Accept-Encoding: gzip",
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


CHUNKS = b"1\r\n{\r\n20\r\n" + b'"model":"llama","max_tokens":50}' + b"\r\n0\r\n\r\n"
RECORDED = [
    pytest.param(envoy(0), len(BODY) // 4, id="envoy"),
    pytest.param(envoy(203, b"x-envoy-auth-partial-body: false") + BODY, len(BODY) // 4, id="envoy-with-body"),
    pytest.param(envoy(60, b"x-envoy-auth-partial-body: true") + BODY[:60], len(BODY) // 4, id="envoy-with-a-cut-body"),
    pytest.param(traefik(), MEAN, id="traefik"),
    pytest.param(traefik(b"Transfer-Encoding: chunked") + CHUNKS, 33 // 4, id="traefik-with-body"),
]


@pytest.mark.parametrize(("sent", "tokens"), RECORDED)
def test_what_was_recorded_is_let_in_while_there_is_room_and_judged_by_its_length_when_not(sent: bytes, tokens: int) -> None:
    assert len(BODY) == 203
    with running() as (port, _):
        assert exchange(port, sent).startswith(b"HTTP/1.1 200 ")
    with running(full=True) as (port, ledger):
        answer = exchange(port, sent)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b'"type": "overloaded"' in answer
    assert ledger.rejected_tokens == {"standard": tokens}
