"""Does every room import only what it may?

Rooms among each other: the contracts in pyproject.toml ([tool.importlinter]), which follow chains of imports too; here
they are run, and each is shown to bite. Rooms and the outside: `OUTSIDE` below, an allowlist that import-linter cannot
say. A new room has to be entered in both.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "autoscaler"

# The core may use the part of the standard library that has no clock, network, logger, environment, file or chance.
PURE_TEXT = """__future__ abc bisect cmath collections contextlib dataclasses decimal enum fractions functools heapq
    itertools json math operator re statistics string textwrap types typing"""
PURE = frozenset(PURE_TEXT.split())
IMPURE_CALLS = frozenset({"__import__", "breakpoint", "eval", "exec", "input", "open", "print"})

ANY = frozenset({"any"})
OUTSIDE: Mapping[str, frozenset[str]] = {
    "core": frozenset({"numpy"}),
    "refusal": frozenset(),
    "policy": frozenset({"pydantic", "pydantic_core", "yaml"}),
    "policy_file": frozenset({"pydantic"}),
    "ports": frozenset(),
    "roster": frozenset(),
    "errands": frozenset(),
    "fitting": frozenset(),
    "publishing": frozenset(),
    "rebuilding": frozenset(),
    "controller": frozenset(),
    "conductor": frozenset(),
    "adapters": ANY,  # one client each, see `crowded_adapters`
    "apps": frozenset({"fastapi", "pydantic", "starlette", "urllib3", "uvicorn"}),
    "sidecar": frozenset({"fastapi", "msgspec", "urllib3", "uvicorn", "uvloop"}),
    "companion": frozenset({"cryptography", "fastapi", "msgspec", "prometheus_client", "pydantic", "starlette", "uvicorn"}),
    "simulator": frozenset({"numpy", "prometheus_client", "pydantic", "yaml"}),
    "scheduling": frozenset({"apscheduler"}),
    "commands": ANY,
    "options": frozenset({"click"}),
    "cli": ANY,
    "__main__": frozenset(),
    "__init__": frozenset(),
}
# Not clients: formats and numbers. And the layer below a client, whose errors and time-outs an adapter has to name.
NO_CLIENT = frozenset({"numpy", "prometheus_client", "pydantic", "pydantic_core", "yaml"})
BELOW: Mapping[str, frozenset[str]] = {
    "requests": frozenset({"prometheus_api_client"}),
    "urllib3": frozenset({"prometheus_api_client", "kubernetes"}),
}


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import from outside the project, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            packages = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            packages = [node.module.partition(".")[0]]
        else:
            continue
        yield from ((node.lineno, package) for package in packages if package != "autoscaler")


def _impurities(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for line, package in _imports(tree):
        if package in sys.stdlib_module_names and package not in PURE:
            yield line, f"the core is pure and must not import {package}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield node.lineno, f"the core is pure and must not call {node.func.id}()"
        if isinstance(node, ast.Attribute) and node.attr == "random":
            yield node.lineno, "the core is pure and must not use numpy's random numbers"


def breaches(path: str, source: str) -> Iterator[str]:
    """What breaks a rule about the outside in the file at `path` below autoscaler/: "file:line: rule" each."""
    room = path.removesuffix(".py").partition("/")[0]
    if room not in OUTSIDE:
        yield f"autoscaler/{path}:1: room {room!r} is not in OUTSIDE of tests/test_layers.py"
        return
    tree = ast.parse(source)
    if room == "core":
        yield from (f"autoscaler/{path}:{line}: {rule}" for line, rule in _impurities(tree))
    allowed = OUTSIDE[room]
    for line, package in _imports(tree):
        if package not in sys.stdlib_module_names and allowed is not ANY and package not in allowed:
            row = ", ".join(sorted(allowed)) or "nothing"
            yield f"autoscaler/{path}:{line}: {room} must not import {package}; from outside it may import {row}"


def crowded_adapters(sources: Mapping[str, str]) -> Iterator[str]:
    """The adapters (a file or a folder in adapters/) that talk to the outside through more than one client."""
    seen: dict[str, dict[str, str]] = {}
    for path, source in sources.items():
        room, _, rest = path.removesuffix(".py").partition("/")
        if room == "adapters":
            clients = seen.setdefault(rest.partition("/")[0], {})
            for line, package in _imports(ast.parse(source)):
                if package not in sys.stdlib_module_names and package not in NO_CLIENT:
                    clients.setdefault(package, f"autoscaler/{path}:{line}: an adapter has one client, this is number")
    for found in seen.values():
        clients = {client: where for client, where in found.items() if not BELOW.get(client, frozenset()) & found.keys()}
        yield from (f"{where} {n} ({client})" for n, (client, where) in enumerate(clients.items(), 1) if n > 1)


SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def test_every_room_imports_from_outside_only_what_its_row_allows() -> None:
    assert "core/decide.py" in SOURCES
    found = [breach for path, source in SOURCES.items() for breach in breaches(path, source)]
    assert not found, "\n" + "\n".join(found)


def test_every_adapter_has_one_client() -> None:
    found = list(crowded_adapters(SOURCES))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("core/plan.py", "import math\nimport time\n", "core/plan.py:2: the core is pure and must not import time"),
        ("core/plan.py", "def f():\n    from os.path import join\n", "core/plan.py:2: the core is pure and must not import os"),
        ("core/plan.py", "x = 1\nprint(x)\n", "core/plan.py:2: the core is pure and must not call print()"),
        (
            "core/plan.py",
            "import numpy\nnumpy.random.rand()\n",
            "core/plan.py:2: the core is pure and must not use numpy's random",
        ),
        ("core/plan.py", "import pydantic\n", "core/plan.py:1: core must not import pydantic; from outside it may import numpy"),
        ("ports.py", "import requests\n", "ports.py:1: ports must not import requests; from outside it may import nothing"),
        ("apps/live.py", "import kubernetes.client\n", "apps/live.py:1: apps must not import kubernetes; "),
        ("helpers.py", "", "helpers.py:1: room 'helpers' is not in OUTSIDE"),
    ],
)
def test_a_breach_is_named_with_file_line_and_rule(path: str, source: str, expected: str) -> None:
    (found,) = breaches(path, source)
    assert found.startswith(f"autoscaler/{expected}")


def test_a_second_client_is_found_across_the_files_of_an_adapter() -> None:
    sources = {
        "adapters/metrics/query.py": "import requests\nfrom prometheus_api_client import PrometheusConnect\n",
        "adapters/metrics/push.py": "import yaml\nimport kubernetes\n",
        "adapters/clock.py": "import time\nimport apscheduler\n",
    }
    (found,) = crowded_adapters(sources)
    assert found == "autoscaler/adapters/metrics/push.py:2: an adapter has one client, this is number 2 (kubernetes)"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/plan.py", "import math\nimport numpy as np\nfrom autoscaler.core.fleet import Fleet\n"),
        ("adapters/metrics.py", "import time\nimport yaml\nimport requests\nimport prometheus_api_client\n"),
        ("adapters/cluster.py", "import urllib3\nimport kubernetes\n"),
        ("cli.py", "import click\nimport rich\nimport uvicorn\n"),
    ],
)
def test_what_a_room_needs_is_allowed(path: str, source: str) -> None:
    assert not list(breaches(path, source))
    assert not list(crowded_adapters({path: source}))


def _lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run this project's contracts over the package in `tree`."""
    program = str(Path(sys.executable).with_name("lint-imports"))
    command = [program, "--no-logo", "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow  # a process
def test_the_contracts_between_rooms_hold() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def bare_rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files by name, all empty: nothing imports anything."""
    tree = tmp_path_factory.mktemp("rooms")
    for source in PACKAGE.rglob("*.py"):
        copy = tree / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    return tree


@pytest.mark.slow  # a process each
@pytest.mark.parametrize(
    ("path", "imported", "contract"),
    [
        ("core/fleet.py", "autoscaler.policy", "A room imports only rooms below it"),
        ("controller.py", "autoscaler.adapters.clock", "A room imports only rooms below it"),
        ("core/plan.py", "autoscaler.core.decide", "A core file imports only what is read before it"),
        ("adapters/clock.py", "autoscaler.adapters.sim_cluster", "Adapters never import each other"),
        ("companion/serving.py", "autoscaler.adapters.clock", "A room imports only rooms below it"),
        ("simulator/__init__.py", "autoscaler.adapters.clock", "The simulator knows no adapter and no app"),
    ],
)
def test_a_contract_bites(bare_rooms: Path, path: str, imported: str, contract: str) -> None:
    guilty = bare_rooms / "autoscaler" / path
    guilty.write_text(f"import {imported}\n")
    done = _lint(bare_rooms)
    guilty.write_text("")
    assert done.returncode == 1
    broken = done.stdout.partition("Broken contracts")[2]
    assert contract in broken, done.stdout
    assert imported in broken


@pytest.mark.slow  # a process
def test_a_new_room_must_be_given_its_place(bare_rooms: Path) -> None:
    stray = bare_rooms / "autoscaler" / "stray.py"
    stray.touch()
    done = _lint(bare_rooms)
    stray.unlink()
    assert done.returncode == 1
    assert "stray" in done.stdout, done.stdout
