"""How do tests ask a sidecar without a server? As uvicorn would: a scope, messages in, messages out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoscaler.sidecar.answers import Answers
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.desk import Desk
from autoscaler.sidecar.hot import Hot, Message, Receive, Send
from autoscaler.sidecar.ledger import Ledger


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Sidecar:
    """A hot path on a board, at a time that the test sets."""

    def __init__(self, board: Board, *, predictions: bool = False, now: float = 100.0) -> None:
        self.now, self.board, self.ledger = now, board, Ledger()
        self.desk = Desk(board, self.ledger, Answers(predictions, chance=lambda: 0.5), lambda: self.now)
        self.hot = Hot(self.desk, _behind)

    def ask(self, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", method: str = "POST") -> Answered:
        """A request whose body comes whole."""
        raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        if body:
            raw.append((b"content-length", b"%d" % len(body)))
        return self.ask_raw(path, raw, [body], method)

    def ask_raw(
        self, path: str, headers: Sequence[tuple[bytes, bytes]], parts: Sequence[bytes], method: str = "POST"
    ) -> Answered:
        """A request whose body comes in these parts; if there are none, the client goes away."""
        return asyncio.run(_ask(self.hot, path, headers, parts, method))


async def _ask(hot: Hot, path: str, headers: Sequence[tuple[bytes, bytes]], parts: Sequence[bytes], method: str) -> Answered:
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if waiting:
        waiting[-1]["more_body"] = False
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await hot({"type": "http", "path": path, "method": method, "headers": list(headers)}, receive, send)
    start, body = sent
    return Answered(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"])


async def _behind(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"behind"})
