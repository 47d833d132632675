"""What does a leader say in the tests? A fleet with room, and the same one full."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autoscaler.core.fleet import Role
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.state import Heard, read

FLEET = "chat/llama"
STATE_PATH = f"/v1/state/{FLEET}"

STATE: Mapping[str, Any] = {
    "format": 1,
    "fleet": FLEET,
    "model_name": "llama",
    "epoch": 1_763_755_000_123,
    "sequence": 42,
    "issued_at": 1_763_755_042.5,
    "offered_rps": 10.0,
    "crowds": {
        "prefill": {"serving": 2, "idle": 0, "waiting": 1, "running": 2, "waiting_tokens": 4000, "age_s": 0.25},
        "decode": {"serving": 2, "idle": 0, "waiting": 0, "running": 40, "resident_tokens": 80_000, "age_s": 0.5},
    },
    "profile": {
        "name": "test",
        "prefill_s": [0.02, 0.0001, 0.0],
        "decode_s": [0.01, 0.0001, 5e-08],
        "kv_tokens": 400_000,
        "max_seqs": 256,
        "kv_bytes_per_token": 131_072,
        "link_bytes_per_s": 25e9,
        "link_base_s": 0.001,
        "decode_beyond": None,
    },
    "shape": {"prompt_tokens": 2000.0, "uncached_tokens": 1500.0, "output_tokens": 300.0, "cv2": 1.0},
    "stay_s": 6.0,
    "handoff_s": 0.0,
    "pace": {"work_s": 1.7, "tokens": 21_500.0, "requests": 10.0},
    "served": {"misses": {"ttft": 0.02, "tpot": 0.01}, "window_s": 60.0, "samples": 600.0},
    "rules": {
        "mode": "enforce",
        "status": 429,
        "strategy": "predictive",
        "margin": 0.0,
        "sureness": 0.5,
        "max_age_s": 2.0,
        "default": "standard",
        "classes": [
            {
                "name": "premium",
                "promises": {
                    "ttft": {"seconds": 1.0, "least_s": 0.5, "most_s": 5.0},
                    "tpot": {"seconds": 0.05, "least_s": 0.02, "most_s": 0.2},
                },
                "priority": 10,
                "reserved": {"prefill": 0.2, "decode": 0.2},
                "headers": [["x-tier", "gold"]],
                "objectives": ["premium-objective"],
            },
            {
                "name": "standard",
                "promises": {
                    "ttft": {"seconds": 2.0, "least_s": 0.5, "most_s": 10.0},
                    "tpot": {"seconds": 0.05, "least_s": 0.02, "most_s": 0.2},
                },
            },
            {
                "name": "batch",
                "promises": {
                    "ttft": {"seconds": 3.0, "least_s": 0.5, "most_s": 60.0},
                    "tpot": {"seconds": 0.1, "least_s": 0.02, "most_s": 1.0},
                },
                "priority": -10,
                "headers": [["x-tier", "batch"]],
                "may_retry": False,
            },
        ],
    },
}
FULL = {
    "prefill": {"serving": 2, "idle": 0, "waiting": 100, "running": 2, "waiting_tokens": 150_000, "age_s": 0.25},
    "decode": {"serving": 2, "idle": 0, "waiting": 0, "running": 40, "resident_tokens": 80_000, "age_s": 0.5},
}


def text(*, full: bool = False, mode: str = "enforce", **changes: Any) -> bytes:
    """A document as it is sent; `full`: prefill is behind by some 8 seconds."""
    rules = {**STATE["rules"], "mode": mode, **changes.pop("rules", {})}
    if full:
        changes = {"crowds": FULL, **changes}
    return json.dumps({**STATE, "rules": rules, **changes}).encode()


def heard(**changes: Any) -> Heard:
    """A document as it was read."""
    found = read(text(**changes))
    assert isinstance(found, Heard), found
    return found


def board(now: float = 100.0, **changes: Any) -> Board:
    """A board that heard it just now."""
    made = Board()
    made.offer(heard(**changes), now, 0.0, trusted=True)
    return made


def crowds(**changes: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Those of STATE with changes by role."""
    return {role.value: {**STATE["crowds"][role], **changes.get(role, {})} for role in Role}
