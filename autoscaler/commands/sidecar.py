"""How is the sidecar put together?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click

from autoscaler.apps.probes import address
from autoscaler.apps.server import listen as bind
from autoscaler.refusal import Refusal
from autoscaler.sidecar.feed import Source
from autoscaler.sidecar.workers import Settings, serve


def sidecar(
    *,
    states: Sequence[str],
    listen: str,
    workers: int,
    secret_file: Path | None,
    ca_file: Path | None,
    predictions: bool,
    connections: int,
) -> None:
    """Judge requests until SIGTERM or SIGINT. Raises Refusal on bad input; a leader that does not answer is none."""
    for url in states:
        _check_address(url)
    for name, file in (("--secret-file", secret_file), ("--ca-file", ca_file)):
        if file is not None and not file.is_file():
            raise Refusal(f"{name} {file}: no such file")
    with bind(*address(listen)) as listener:
        host, port = listener.getsockname()[:2]
        click.echo(f"sidecar: http://{f'[{host}]' if ':' in host else host}:{port}/", err=True)
        serve(listener, Settings(Source(tuple(states), secret_file, ca_file), workers, predictions, connections))


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        well = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        well = False
    if not well:
        raise Refusal(f"--state {url!r}: must be an address like http://HOST:PORT/v1/state/NAMESPACE/NAME")
