"""Is what is declared, locked and shipped the same as what is used?

The wheel is built for real (half a second, no network: the locked hatchling does it), because data files that only
exist in the working tree are the classic packaging fault.
"""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
from email.parser import Parser
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

import autoscaler

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "autoscaler"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("requirements.lock", "requirements-dev.lock")
# Part of the interface of what is declared: its classes, its errors. They may be imported without being declared.
COMES_WITH = {"starlette": "fastapi", "pydantic-core": "pydantic", "urllib3": "requests"}
NEEDED_BY = {"uvicorn.protocols.http.httptools_impl": "httptools"}  # imported for us by what we import


def _distribution(requirement: str) -> str:
    """The normalized name at the start of a requirement or a pin."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


DECLARED = {_distribution(requirement) for requirement in PROJECT["dependencies"]}


def _pins(lock: str) -> dict[str, list[str]]:
    """Each requirement line of a lock with its hashes."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line[:1].isalnum():
            pins[line.rstrip(" \\")] = hashes = []
        elif line.strip().startswith("--hash="):
            hashes.append(line.strip().rstrip(" \\"))
    return pins


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_has_hashes(lock: str) -> None:
    pins = _pins(lock)
    assert len(pins) > 20
    for pin, hashes in pins.items():
        assert re.match(r"[a-z0-9.-]+==[^\s]+( ; .+)?$", pin), pin
        assert hashes, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in hashes), pin


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_no_path(lock: str) -> None:
    """Whoever installs decides where from; the hashes decide what."""
    text = (ROOT / lock).read_text()
    assert not re.findall(r"://|--(?:extra-)?index|--find-links|^-[a-z]\b|\s/\w+/", text, re.MULTILINE)


def test_the_locks_hold_what_the_project_declares() -> None:
    extra = PROJECT["optional-dependencies"]["dev"]
    for lock, declared in zip(LOCKS, (DECLARED, DECLARED | {_distribution(requirement) for requirement in extra}), strict=True):
        assert declared - {_distribution(pin) for pin in _pins(lock)} == set()


def test_tests_run_on_the_versions_that_ship() -> None:
    runtime, dev = (_pins(lock).items() for lock in LOCKS)
    assert all(pin in dev for pin in runtime)


@cache
def _imported() -> frozenset[str]:
    """Distributions that autoscaler/ imports, by their normalized names."""
    names = set()
    for source in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module.partition(".")[0], NEEDED_BY.get(node.module, "autoscaler")}
    owners = packages_distributions()
    outside = names - sys.stdlib_module_names - {"autoscaler"}
    return frozenset(_distribution(owner) for name in outside for owner in owners.get(name, [name]))


@pytest.mark.slow  # parses every source
def test_what_is_imported_is_declared() -> None:
    assert {COMES_WITH.get(name, name) for name in _imported()} - DECLARED == set()


@pytest.mark.slow  # the same
def test_what_is_declared_is_imported() -> None:
    assert DECLARED - _imported() == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (built,) = out.glob("*.whl")
    return ZipFile(built)


@pytest.mark.slow  # a process
def test_the_wheel_ships_every_file_of_the_package(wheel: ZipFile) -> None:
    """Code, metric profiles, the page with its scripts and styles, py.typed."""
    files = (path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file())
    sources = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    assert {Path(name).suffix for name in sources} >= {".py", ".js", ".css"}
    assert {name for name in wheel.namelist() if name.startswith("autoscaler/")} == sources


@pytest.mark.slow  # a process
def test_the_version_is_written_once(wheel: ZipFile) -> None:
    assert "version" not in PROJECT
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert Parser().parsestr(wheel.read(name).decode())["Version"] == autoscaler.__version__


@pytest.mark.slow  # a process
def test_the_wheel_carries_the_licences_and_the_command(wheel: ZipFile) -> None:
    names = wheel.namelist()
    assert sum("/licenses/" in name for name in names) == 2, "ours and the chart library's"
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "autoscaler = autoscaler.cli:main" in wheel.read(entry_points).decode()


def test_vendored_files_are_the_published_ones() -> None:
    readmes = list((PACKAGE / "apps" / "static" / "vendor").glob("*/README.md"))
    assert readmes
    for readme in readmes:
        sums = dict(line.split()[::-1] for line in readme.read_text().splitlines() if re.match(r"[0-9a-f]{64} ", line))
        shipped = {path.name for path in readme.parent.iterdir()} - {"README.md", "LICENSE"}
        assert sums.keys() == shipped
        for name, digest in sums.items():
            assert hashlib.sha256((readme.parent / name).read_bytes()).hexdigest() == digest, name
