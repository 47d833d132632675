"""What did a running controller (or demo) say at its last tick, and why?"""

from __future__ import annotations

import json
from typing import Any

import click
import requests
from rich.console import Console

from autoscaler.commands.report import whole
from autoscaler.refusal import Refusal

TIMEOUT_S = (2.0, 5.0)


def explain(url: str, fleet: str | None, as_json: bool) -> None:
    """Print the reason chain of one fleet's last tick. Raises Refusal when there is none to be had."""
    document = _fetch(url, fleet)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        Console().print(whole(document))


def _fetch(url: str, fleet: str | None) -> dict[str, Any]:
    session = requests.Session()
    session.trust_env = False
    try:
        answer = session.get(f"{url.rstrip('/')}/api/explain", params={"fleet": fleet} if fleet else {}, timeout=TIMEOUT_S)
        body = answer.json()
    except requests.exceptions.JSONDecodeError as error:
        raise Refusal(f"--url {url}: answers, but not as a live page does") from error
    except requests.RequestException as error:
        why = f"no controller answers there ({type(error).__name__}); start one with `run` or `demo`"
        raise Refusal(f"--url {url}: {why}") from error
    if not answer.ok or not isinstance(body, dict):
        detail = body.get("detail", answer.reason) if isinstance(body, dict) else answer.reason
        raise Refusal(f"--url {url}: {detail}")
    return body
