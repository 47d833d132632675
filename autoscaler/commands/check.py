"""Are these policy files valid, and what would surprise their owner?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from autoscaler.adapters.prometheus import load_profiles, queries_for
from autoscaler.policy import warnings
from autoscaler.policy_file import load_policies


def check(files: Sequence[Path], as_json: bool) -> None:
    """Print one line per policy and its warnings. Raises Refusal with every problem found."""
    loaded = load_policies(files)
    profiles = load_profiles()
    for one in loaded:
        spec = one.document.spec
        queries_for(spec.engine, spec.gateway, spec.metrics.queries, profiles)
    if as_json:
        documents = [one.document for one in loaded]
        rows = [{"policy": one.key, "mode": one.spec.mode, "warnings": warnings(one)} for one in documents]
        click.echo(json.dumps({"valid": True, "policies": rows}, indent=2))
        return
    for one in loaded:
        click.secho(f"{one.document.key}: ok, mode {one.document.spec.mode}", fg="green")
        for warning in warnings(one.document):
            click.secho(f"  warning: {warning}", fg="yellow")
