"""Which CustomResourceDefinition does a cluster need for PDAutoscalers of this release?"""

from __future__ import annotations

import json

import click
import yaml

from autoscaler.policy.crd import definition

HEADING = "# Made by `autoscaler crd` from the policy model: change it there.\n"
WIDTH = 110


def crd(as_json: bool) -> None:
    """Print it as YAML for `kubectl apply -f -`, or as JSON."""
    text = json.dumps(definition(), indent=2)
    if as_json:
        click.echo(text)
        return
    # Parts that are used twice are one object in memory, which YAML would write as an anchor; after JSON they are copies.
    click.echo(HEADING + yaml.safe_dump(json.loads(text), sort_keys=False, width=WIDTH, default_flow_style=False), nl=False)
