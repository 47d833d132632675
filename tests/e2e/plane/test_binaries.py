"""Are the programs of the control plane found where they are, and is their absence told?"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.e2e.plane.binaries import BUILT, GO_SUM, SYSTEM, Binaries, cache_folder, find_binaries

ROOT = Path(__file__).parents[3]
Install = Callable[[Path, Iterable[str]], Path]

pytestmark = pytest.mark.slow  # runs pytest and the build script


@pytest.fixture
def install() -> Install:
    def into(folder: Path, names: Iterable[str]) -> Path:
        (folder / "manifests").mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).touch(mode=0o755)
        return folder

    return into


def test_a_folder_set_on_purpose_comes_first_and_path_last(tmp_path: Path, install: Install) -> None:
    environment = {"PDA_CACHE": str(tmp_path / "cache"), "KUBEBUILDER_ASSETS": str(tmp_path / "assets")}
    environment["PATH"] = str(install(tmp_path / "path", (*BUILT, *SYSTEM)))
    cache = install(cache_folder(environment), ("etcd", "kubectl", "lws-manager"))
    assets = install(tmp_path / "assets", ("etcd",))
    found = find_binaries(environment)
    assert isinstance(found, Binaries)
    wanted = {"etcd": assets, "kubectl": cache, "kwok": tmp_path / "path"}
    assert {name: found.programs[name].parent for name in wanted} == wanted
    assert found.manifests == cache / "manifests"


def test_the_cache_of_another_go_sum_is_not_used(tmp_path: Path, install: Install) -> None:
    environment = {"PDA_CACHE": str(tmp_path), "PATH": str(install(tmp_path / "path", SYSTEM))}
    install(tmp_path / "controlplane" / "0123456789ab", BUILT)
    assert isinstance(find_binaries(environment), str)
    present = install(tmp_path / "controlplane" / hashlib.sha256(GO_SUM.read_bytes()).hexdigest()[:12], BUILT)
    found = find_binaries(environment)
    assert isinstance(found, Binaries)
    assert found.programs["kube-apiserver"].parent == present


@pytest.mark.parametrize("missing", [*BUILT, *SYSTEM])
def test_a_missing_program_is_named(tmp_path: Path, install: Install, missing: str) -> None:
    path = install(tmp_path / "path", {*BUILT, *SYSTEM} - {missing})
    told = find_binaries({"PDA_CACHE": str(tmp_path), "PATH": str(path)})
    assert isinstance(told, str)
    assert told.startswith(f"no control plane: {missing} not found")


def test_a_manager_without_its_manifests_is_not_enough(tmp_path: Path, install: Install) -> None:
    path = install(tmp_path / "path", (*BUILT, *SYSTEM))
    (path / "manifests").rmdir()
    told = find_binaries({"PDA_CACHE": str(tmp_path), "PATH": str(path)})
    assert isinstance(told, str)
    assert "manifests (CRDs and webhooks) not found" in told


@pytest.mark.parametrize(("ci", "outcome"), [("", "skipped"), ("true", "error")])
def test_without_programs_a_user_is_told_and_ci_fails(tmp_path: Path, ci: str, outcome: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/e2e/plane/test_plane.py", "-k", "gigabyte"]
    environment = {**os.environ, "PDA_CACHE": str(tmp_path), "PATH": str(tmp_path), "KUBEBUILDER_ASSETS": "", "CI": ci}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert f"1 {outcome}" in done.stdout.splitlines()[-1]
    assert "no control plane: etcd, kube-apiserver" in done.stdout
