"""What does the SDK of OpenAI itself make of the burst of test_retries.py, with our Retry-After and without?

Its clients run on an event loop whose time jumps to whatever is next, so its waits cost nothing.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter

import httpx2
import openai
import pytest

from tests.sidecar.test_retries import BURST, BURST_S, PROMPT, SKIN, Fleet, Outcome


class Jumping(selectors.DefaultSelector):
    """Waits for nothing: the time of its loop jumps instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


def played_by_the_sdk(*, heeded: bool) -> Outcome:
    """The burst by the SDK of OpenAI, as its users have it; not `heeded`: a gateway on the way drops what names a time."""
    fleet, per_second, jumping = Fleet(), Counter[int](), Jumping()
    loop = asyncio.SelectorEventLoop(jumping)
    loop.time = lambda: jumping.now  # type: ignore[method-assign]

    def gateway(request: httpx2.Request) -> httpx2.Response:
        per_second[int(jumping.now)] += 1
        headers = {name.lower(): value for name, value in request.headers.raw} | {
            b"x-pda-prompt-tokens": PROMPT,
            b"x-pda-uncached-tokens": PROMPT,
        }
        answer = fleet.at(jumping.now).desk.answer(SKIN, headers, b"")
        if answer.start["status"] == 200:
            fleet.waiting += 1
            return httpx2.Response(200, json={"id": "x", "object": "list", "data": []})
        told = [header for header in answer.start["headers"] if heeded or not header[0].startswith(b"retry-after")]
        return httpx2.Response(answer.start["status"], headers=told, content=answer.body["body"])

    async def user(client: openai.AsyncOpenAI, at_s: float) -> bool:
        await asyncio.sleep(at_s)
        try:
            await client.models.list()
        except openai.RateLimitError:
            return False
        return True

    async def burst() -> int:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(gateway)) as http:
            client = openai.AsyncOpenAI(api_key="none", base_url="http://llm/v1", http_client=http)
            return sum(await asyncio.gather(*(user(client, BURST_S * n / BURST) for n in range(BURST))))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        served = runner.run(burst())
    return Outcome(served, per_second.total(), max(per_second.values()))


@pytest.mark.slow  # the SDK, two thousand times
def test_the_sdk_of_openai_offers_each_request_twice_without_retry_after_and_serves_all_with_it() -> None:
    told, untold = played_by_the_sdk(heeded=True), played_by_the_sdk(heeded=False)
    assert told.served > 0.95 * BURST
    assert untold.served < 0.5 * BURST
    assert told.asks / BURST < 2.0 < untold.asks / BURST, "effective over offered load"
    assert told.peak < 1.5 * BURST / BURST_S < 2 * BURST / BURST_S < untold.peak
