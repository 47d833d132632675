"""Is the image what its comments promise? There is no container engine here.

So the Dockerfile is read as text, and its own commands are run in a temporary folder instead of a layer. Not shown: that
the base image exists, that pip is gone from it, and that the layers together start.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import autoscaler

ROOT = Path(__file__).parent.parent
HOME = "/opt/pd-autoscaler"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class Stage:
    """One FROM and what follows it: (instruction, its text) each."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def texts(self, instruction: str) -> list[str]:
        return [text for word, text in self.steps if word == instruction]

    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for text in self.texts("ENV") for pair in shlex.split(text))


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def stages() -> list[Stage]:
    found: list[Stage] = []
    for word, text in instructions():
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            found.append(Stage(base, name))
        elif found:
            found[-1].steps.append((word, text))
    return found


def test_there_are_three_stages_on_one_base_of_one_named_release() -> None:
    assert [stage.name for stage in stages()] == ["wheel", "packages", ""]
    assert {stage.base for stage in stages()} == {"python:${PYTHON}"}
    (default,) = [text for word, text in instructions() if word == "ARG"]
    assert re.fullmatch(r"PYTHON=3\.(11|12)\.\d+-slim-bookworm", default)


def test_every_installation_is_held_to_a_lock_with_hashes_or_to_a_wheel_of_ours() -> None:
    installs = [text for stage in stages() for text in stage.texts("RUN") if " install " in text]
    assert len(installs) == 3
    for text in installs:
        assert "--no-deps" in text
        assert ("--require-hashes" in text) != ("--no-index" in text)


def test_the_last_stage_installs_nothing_and_takes_only_the_environment() -> None:
    last = stages()[-1]
    assert last.texts("COPY") == [f"--from=packages {HOME} {HOME}"]
    assert last.texts("ADD") == []
    (only,) = last.texts("RUN")
    assert only.startswith("python -m pip uninstall --yes")


def test_it_runs_as_a_number_that_is_not_root_and_the_manifest_names_the_same() -> None:
    (user,) = stages()[-1].texts("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert f"runAsUser: {user.partition(':')[0]}" in (ROOT / "manifests" / "base" / "deployment.yaml").read_text()


def test_blas_has_one_thread_and_nothing_is_written_at_run_time() -> None:
    environment = stages()[-1].environment()
    assert {environment[name] for name in THREADS} == {"1"}
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_it_starts_the_controller_without_a_shell() -> None:
    last = stages()[-1]
    assert last.texts("ENTRYPOINT") == [f'["{HOME}/bin/autoscaler"]']
    assert last.texts("CMD") == ['["run"]']


def test_no_secret_and_no_address_is_in_it() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"://|--(?:extra-)?index-url|--find-links|token|password|secret|apt-get|curl", text, re.IGNORECASE)


def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        name for stage in stages() for text in stage.texts("COPY") if not text.startswith("--from=") for name in text.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in sent)


def run(command: str, places: Mapping[str, str], folder: Path) -> None:
    """A RUN of the Dockerfile, with its folders moved."""
    for place, instead in places.items():
        command = re.sub(rf"(?<![\w/]){re.escape(place)}", instead, command)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"


@pytest.mark.slow
def test_its_own_commands_make_an_environment_that_runs_and_has_no_pip(tmp_path: Path) -> None:
    """All but the first installation: the hatchling of these tests is the one that it would install."""
    source, home = tmp_path / "src", tmp_path / "home"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "autoscaler", source / "autoscaler", ignore=shutil.ignore_patterns("__pycache__"))
    places = {"/wheels": str(tmp_path / "wheels"), HOME: str(home)}
    wheel, packages, last = stages()
    for command in (*wheel.texts("RUN")[1:], *packages.texts("RUN")):
        run(command, places, source)

    assert not list(home.glob("lib/*/site-packages/pip*"))
    environment = {**last.environment(), "PATH": f"{home}/bin:/usr/bin:/bin"}
    entry = [str(home / "bin" / "autoscaler")]
    told = subprocess.run([*entry, "--version"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.strip().endswith(autoscaler.__version__)
    printed = subprocess.run([*entry, "crd"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert printed.stdout == (ROOT / "manifests" / "crd" / "pdautoscalers.yaml").read_text()
