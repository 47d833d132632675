"""Does everything the README tells to type exist, with those options, and does every figure name its benchmark?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
import yaml

from autoscaler.cli import cli
from autoscaler.policy import Document

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> Iterator[list[str]]:
    """Every command line of the README's shell blocks, comments cut off."""
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in re.split(r"\n| \| ", block):
            if words := shlex.split(line, comments=True):
                yield words


COMMANDS = list(commands())
OURS = [words for words in COMMANDS if words[0] == ".venv/bin/autoscaler"]
MAKE = [words for words in COMMANDS if words[0] == "make"]
KUBECTL = [words for words in COMMANDS if words[0] == "kubectl"]
CURL = [words for words in COMMANDS if words[0] == "curl"]


def test_the_readme_shows_only_commands_that_are_held_here() -> None:
    assert len(OURS) >= 5
    assert len(MAKE) >= 5
    assert len(OURS) + len(MAKE) + len(KUBECTL) + len(CURL) == len(COMMANDS)


@pytest.mark.parametrize("words", CURL, ids=" ".join)
def test_what_is_asked_by_hand_is_a_page_of_the_sidecar(words: list[str]) -> None:
    address = urlsplit(words[-1])
    (listen,) = (option for option in cli.commands["sidecar"].params if option.name == "listen")
    assert address.netloc == listen.default
    sources = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "autoscaler" / "sidecar").glob("*.py"))
    assert f'"{address.path}"' in sources


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_every_command_parses_as_written(words: list[str]) -> None:
    command = cli.commands[words[1]]
    with command.make_context(words[1], words[2:]) as context:
        assert isinstance(context, click.Context)


@pytest.mark.parametrize("words", MAKE, ids=" ".join)
def test_every_make_target_and_benchmark_exists(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert words[1] in targets
    for setting in words[2:]:
        assert (ROOT / "tests" / "bench" / f"{setting.removeprefix('NAME=')}.py").is_file()


def test_what_kubectl_is_told_to_apply_and_to_reach_is_there() -> None:
    """That the API server takes it is shown on a real one (tests/e2e/plane/test_manifests.py)."""
    applied = [words[words.index("-f") + 1] for words in KUBECTL if "apply" in words and "-f" in words]
    built = [words[words.index("-k") + 1] for words in KUBECTL if "-k" in words]
    assert all((ROOT / folder / "kustomization.yaml").is_file() for folder in built)
    assert "manifests/install.yaml" in applied
    kinds = {one["kind"]: one for one in yaml.safe_load_all((ROOT / "manifests" / "install.yaml").read_text(encoding="utf-8"))}
    assert all(file == "-" or (ROOT / file).is_file() for file in applied)
    assert (
        kinds["Deployment"]["metadata"] | {"name": "pd-autoscaler", "namespace": "pd-autoscaler"}
        == kinds["Deployment"]["metadata"]
    )
    assert kinds["CustomResourceDefinition"]["spec"]["names"]["plural"] == "pdautoscalers"


def test_the_shown_policy_is_valid() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert Document.model_validate(yaml.safe_load(shown)).key == "default/chat"


def test_every_link_and_picture_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:tests|autoscaler|policies)/[\w./-]+)`", README):
        assert (ROOT / path).exists(), path


def test_every_table_of_figures_names_what_makes_them() -> None:
    """In each row, or for all of them in the paragraph above."""
    made_by = re.compile(r"`(?:make bench NAME=\w+|autoscaler compare [^`]*)`")
    blocks = README.split("\n\n")
    tables = [(before, rows) for before, rows in pairwise(blocks) if rows.startswith("| ") and re.search(r"\d", rows)]
    assert len(tables) >= 3
    for before, rows in tables:
        assert made_by.search(before) or all(made_by.search(row) for row in rows.splitlines()[2:]), rows
