"""Which situations is a policy judged in?

scenarios.yaml holds them, written before anything was tuned: a load, a fleet, promises, and how long a start takes. Each
becomes one `Case` per start-up time, named `scenario@seconds`. Cases marked `kept` are for the final report only; nobody
looks at them while choosing a constant, so whoever asks gets them only on purpose.

A case's requests come from a seed: the same seed, the same requests for every policy that is compared. A case can be
sent to another process.

Traces are no part of the product; they are looked for in a folder, and a scenario whose trace is not there is left out
with a line that says so. A file of scenarios that is wrong is refused with file, line, field, value and range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from autoscaler.core.capacity import Shape, capacity
from autoscaler.core.fleet import ROLE_FACTS, Role
from autoscaler.policy.fields import dotted, objections
from autoscaler.policy.marked_yaml import Marked, NotYaml, read
from autoscaler.refusal import Refusal
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.replay import Slice
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.scenario_file import Mark, ScenarioFile, ScenarioSpec, Traffic
from autoscaler.simulator.scenario_fleet import FOLDER
from autoscaler.simulator.streams import stream
from autoscaler.simulator.traces import Recording
from autoscaler.simulator.workload import Request

BUILT_IN = Path(__file__).with_name("scenarios.yaml")
WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many replicas of a role there may be."""

    min: int
    max: int


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario at one start-up time. `budget_gpus` holds at every instant, replicas that start or drain included.
    `hardships`: its conditions and its rejection as they are written, to be told beside its results.
    """

    name: str
    mark: Mark
    kept: bool
    duration_s: float
    scenario: Scenario
    bounds: Mapping[Role, Bounds]
    budget_gpus: int
    traffic: Traffic
    hardships: Mapping[str, object] = field(default_factory=dict)

    def requests(self, seed: int) -> Iterator[Request]:
        """The requests, sorted, up to `duration_s` or to the end of the trace. Raises TraceError."""
        return self.traffic(stream(seed, "requests"))


@dataclass(frozen=True, slots=True)
class Cases:
    """What can be run, and one line for each scenario that cannot."""

    ready: tuple[Case, ...]
    left_out: tuple[str, ...]

    def named(self, name: str) -> tuple[Case, ...]:
        """The cases of this scenario, or the one of this full name. Refusal, with all names, if there is none."""
        found = tuple(case for case in self.ready if name in {case.name, case.name.partition("@")[0]})
        if not found:
            names = ", ".join(dict.fromkeys(case.name.partition("@")[0] for case in self.ready))
            raise Refusal(f'"{name}" is no scenario that can be run (allowed: {names})')
        return found


def load_cases(traces: Path | None, path: Path = BUILT_IN, *, kept: bool = False, lenient: bool = False) -> Cases:
    """The cases of a file, those kept for the final report or the others. `traces` is the folder the traces are in; `lenient`:
    their rows that cannot be read are left out.

    Raises Refusal for a file that cannot be used, with one line per problem.
    """
    chosen = {name: spec for name, spec in _specs(path).items() if spec.kept is kept}
    missing = {name: line for name, spec in chosen.items() if (line := _missing(name, spec, traces))}
    ready = (_cases(name, spec, traces, lenient) for name, spec in chosen.items() if name not in missing)
    return Cases(tuple(chain.from_iterable(ready)), tuple(missing.values()))


def peak_replicas(case: Case, seed: int = 1, window_s: float = WINDOW_S) -> dict[Role, float]:
    """Replicas of each role that the busiest windows ask for by core/capacity.py, with no delay and no rounding.

    A window is sized by its own mean request, so a moving mix is followed. One window in a hundred may ask for more: whoever
    keeps 99 % of the promises need not serve it. Raises TraceError.
    """
    needs: dict[Role, list[float]] = {role: [] for role in Role}
    for shape, rps in _windows(case.requests(seed), window_s):
        for role, facts in ROLE_FACTS.items():
            one = capacity(facts.sizing, case.scenario.fleet.profile, case.scenario.slos[facts.binding_slo], shape)
            needs[role].append(rps * getattr(shape, facts.work.value) / one.tokens_per_s)
    return {role: sorted(found)[math.ceil(0.99 * len(found)) - 1] if found else 0.0 for role, found in needs.items()}


def _windows(requests: Iterator[Request], window_s: float) -> Iterator[tuple[Shape, float]]:
    """(mean request, requests per second) of each full window; one nobody sends anything in is passed over."""
    begin_s, held = 0.0, list[Request]()
    for request in requests:
        while request.arrival_s >= begin_s + window_s:
            if held:
                yield _mean(held), len(held) / window_s
            begin_s, held = begin_s + window_s, []
        held.append(request)


def _mean(requests: list[Request]) -> Shape:
    count = len(requests)
    uncached = [request.prompt_tokens - request.cached_tokens for request in requests]
    mean = sum(uncached) / count
    cv2 = sum((tokens - mean) ** 2 for tokens in uncached) / count / mean**2
    prompt, output = (sum(tokens) / count for tokens in zip(*((r.prompt_tokens, r.output_tokens) for r in requests), strict=True))
    return Shape(prompt, mean, output, cv2)


def _missing(name: str, spec: ScenarioSpec, traces: Path | None) -> str | None:
    """The line that tells why a scenario is left out, if it is."""
    trace = spec.load.trace
    if trace is None or (traces is not None and (traces / trace.file).is_file()):
        return None
    where = "no folder of traces is given" if traces is None else f"it is not in {traces}"
    return f"{name}: left out, its trace is {trace.file} and {where} (PDA_SHARED names the folder above traces)"


def _cases(name: str, spec: ScenarioSpec, traces: Path | None, lenient: bool) -> Iterator[Case]:
    for start_up_s in spec.start_up_seconds:
        pools = {role: PoolSpec(pool.start, pool.gpus) for role, pool in spec.pools.items()}
        flips, slos = spec.flips.core() if spec.flips else None, spec.slo.core()
        rejection = spec.rejection.core(slos) if spec.rejection else None
        fleet = FleetSpec(name, spec.profile(), pools, StartUp(start_up_s), flips=flips, profiles=spec.profiles())
        yield Case(
            f"{name}@{start_up_s:g}s",
            spec.mark,
            spec.kept,
            spec.duration_seconds,
            spec.conditions.applied(Scenario(fleet, slos, rejection=rejection)),
            {role: Bounds(pool.min, pool.max) for role, pool in spec.pools.items()},
            spec.budget_gpus,
            spec.made_up() or _recorded(spec, traces, lenient),
            spec.hardships,
        )


def _recorded(spec: ScenarioSpec, traces: Path | None, lenient: bool) -> Traffic:
    trace = spec.load.trace
    if trace is None or traces is None:
        raise ValueError("a scenario without a shape and without a trace")
    part = Slice(trace.start_seconds, spec.duration_seconds, spec.rate_scale)
    return Recording(traces / trace.file, part, lenient)


def _specs(path: Path) -> Mapping[str, ScenarioSpec]:
    try:
        pages = list(read(path.read_text(encoding="utf-8")))
    except NotYaml as error:
        raise Refusal(f"{path}:{error.line}: {error}") from error
    except UnicodeDecodeError:
        raise Refusal(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise Refusal(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(pages) != 1:
        raise Refusal(f"{path}: holds {len(pages)} documents, not 1")
    return _checked(path, pages[0])


def _checked(path: Path, page: Marked) -> Mapping[str, ScenarioSpec]:
    problems = [f"{path}:{line}: {dotted(where)}: written on line {before} already" for where, line, before in page.repeated]
    try:
        file = ScenarioFile.model_validate(page.value, context={FOLDER: path.parent})
    except ValidationError as error:
        problems += [f"{path}:{page.line(one.path)}: {one}" for one in objections(error, ScenarioFile)]
    if problems:
        raise Refusal("\n".join(problems))
    return file.scenarios
