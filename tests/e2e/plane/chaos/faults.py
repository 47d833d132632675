"""What can go wrong in the middle of a transaction, one thing at a time?

Each fault is a deed, told as a generator: it waits for its moment, does its worst, and heals what does not heal by itself.
Moments are said by how many writes have passed, or by the step that is stored.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Step
from autoscaler.core.transit import HELP
from tests.e2e.plane.chaos.arena import Arena, Stage
from tests.e2e.plane.chaos.courses import COURSES
from tests.e2e.plane.chaos.proxy import HANGS, Asked, Trouble
from tests.e2e.plane.chaos.trials import Meddle, Verdict, trial
from tests.e2e.plane.credentials import Credentials

LASTS_S = 9.0  # longer than a leader acts on one renewal
SECOND_WRITE = 2
HOUR_S = 3600.0
CORE = "/api/v1"

Deed = Callable[[Arena], Iterator[int]]


def meddling(deed: Deed) -> Meddle:
    """A deed told as a generator: what it yields are faults made, 0 while it waits."""
    going: list[Iterator[int]] = []

    def meddle(arena: Arena) -> int:
        if not going:
            going.append(deed(arena))
        return next(going[0], 0)

    return meddle


def troubled(trouble: Callable[[Asked], Trouble | None], lasts_s: float = LASTS_S) -> Deed:
    """Trouble with requests to the API server, from the second write on."""

    def deed(arena: Arena) -> Iterator[int]:
        yield from until(lambda: len(arena.gate.writes) >= SECOND_WRITE)
        arena.proxy.trouble, ends_s, counted = trouble, time.monotonic() + lasts_s, 0
        arena.proxy.cut()
        while time.monotonic() < ends_s:
            total = arena.proxy.troubled.total()
            yield total - counted
            counted = total
        arena.proxy.trouble = lambda _: None

    return deed


def until(holds: Callable[[], bool]) -> Iterator[int]:
    """Wait."""
    while not holds():
        yield 0


def rest(seconds: float) -> Iterator[int]:
    """Do nothing."""
    ends_s = time.monotonic() + seconds
    yield from until(lambda: time.monotonic() > ends_s)


def every(number: int, trouble: Trouble, concerns: Callable[[Asked], bool] = lambda _: True) -> Callable[[Asked], Trouble | None]:
    """Trouble with each n-th request that it concerns."""
    seen = [0]

    def one(asked: Asked) -> Trouble | None:
        seen[0] += concerns(asked)
        return trouble if concerns(asked) and seen[0] % number == 0 else None

    return one


def expired(arena: Arena) -> Iterator[int]:
    """The server's certificate has run out; it gets a new one after a while."""
    yield from until(lambda: len(arena.gate.writes) >= SECOND_WRITE)
    old = run_out(arena.stage.plane.folder)
    arena.proxy.certify(old.certificate, old.key)
    yield 1
    yield from rest(LASTS_S)
    good = Credentials(arena.stage.plane.folder, arena.stage.plane.server)
    arena.proxy.certify(good.certificate, good.key)


def run_out(folder: Path) -> Credentials:
    """A certificate by the plane's own authority that was good until yesterday."""
    made = Credentials(folder / "expired", "")
    if not made.certificate.exists():
        made.folder.mkdir(exist_ok=True)
        (made.folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        subject = ["-subj", "/CN=expired", "-key", str(folder / "tls.key"), "-out", str(made.folder / "request")]
        signer = ["-CA", str(folder / "tls.crt"), "-CAkey", str(folder / "tls.key"), "-extfile", str(made.folder / "names")]
        _openssl("req", "-new", *subject)
        _openssl("x509", "-req", "-in", str(made.folder / "request"), *signer, "-days", "-1", "-out", str(made.certificate))
        made.key.write_bytes((folder / "tls.key").read_bytes())
    return made


def two_lead(arena: Arena) -> Iterator[int]:
    """Two controllers, and the Lease is stolen from whoever has it again and again."""
    arena.lead(arena.way())
    for _ in range(8):
        arena.depose()
        yield 1
        yield from rest(1.0)


def cut_off(arena: Arena) -> Iterator[int]:
    """The leader loses the API server for good, and goes on asking engines; a second controller waits its time."""
    arena.lead(arena.way())
    yield from until(lambda: len(arena.gate.writes) >= SECOND_WRITE)
    arena.proxy.trouble = lambda _: HANGS
    arena.proxy.cut()
    yield 1


def at(step: Step, act: Callable[[Arena, str], int]) -> Deed:
    """Something happens to the first victim at a step."""

    def deed(arena: Arena) -> Iterator[int]:
        yield from until(lambda: arena.step() == step)
        found = arena.stored().get("transactions")
        yield act(arena, found[0]["victims"][0][0]) if found else 0

    return deed


def deleted(arena: Arena, victim: str) -> int:
    """Somebody deletes its pod."""
    arena.engines.mine(victim)
    pod = arena.api.get(f"{CORE}/namespaces/{arena.namespace}/pods/{victim}")
    if isinstance(pod, ApiFault):
        return 0
    return int(not isinstance(arena.api.delete(pod_path(arena, victim), pod["metadata"]["uid"]), ApiFault))


def evicted(arena: Arena, victim: str) -> int:
    """Its node is drained."""
    arena.engines.mine(victim)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": victim, "namespace": arena.namespace}}
    done = arena.api.create(f"{pod_path(arena, victim)}/eviction", body)
    assert not isinstance(done, ApiFault), done
    return 1


def crashed(arena: Arena, victim: str) -> int:
    """Its engine crashes, and is back in the role of its launch."""
    engine = arena.engines.engine(victim)
    if engine is not None:
        engine.restart()
    return 1


def jumps(seconds: float) -> Callable[[Arena, str], int]:
    """The controller's clock jumps."""

    def act(arena: Arena, _: str) -> int:
        arena.jump(seconds)
        return 1

    return act


def newcomer_deleted(arena: Arena) -> Iterator[int]:
    """A replica that has just been started is deleted, before it serves."""
    name = f"{Role.PREFILL}-{arena.course.start[Role.PREFILL]}"
    yield from until(lambda: not isinstance(arena.api.get(pod_path(arena, name)), ApiFault))
    yield deleted(arena, name)


def never_goes(arena: Arena) -> Iterator[int]:
    """A victim's pod has a finalizer that nobody takes off, until the controller has told that it is stuck, and by what."""
    yield from until(lambda: arena.step() == Step.IDLE)
    victim = arena.stored()["transactions"][0]["victims"][0][0]
    _patched(arena, pod_path(arena, victim), "/metadata/finalizers", ["example.com/kept"])
    yield 1
    yield from until(lambda: arena.step() == Step.GONE)
    arena.jump(HOUR_S)
    yield from until(lambda: f"{Step.GONE} for" in said(arena) and HELP[Step.GONE] in said(arena))
    _patched(arena, pod_path(arena, victim), "/metadata/finalizers", [])
    yield 1


def never_starts(arena: Arena) -> Iterator[int]:
    """There is no room for a new replica: it goes back, and what it took is there again; and then there is room."""
    yield from until(lambda: arena.step() == Step.IDLE)
    quotas, most = f"{CORE}/namespaces/{arena.namespace}/resourcequotas", sum(arena.course.start.values()) - 1
    about = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}}
    made = arena.api.create(quotas, about | {"spec": {"hard": {"pods": str(most)}}})
    assert isinstance(made, dict), made
    yield 1
    yield from until(lambda: arena.step() == Step.READY)
    arena.jump(HOUR_S)
    yield from until(lambda: "undone" in said(arena))
    arena.api.delete(f"{quotas}/full", made["metadata"]["uid"])
    yield 1


def said(arena: Arena) -> str:
    """What all its controllers have logged."""
    return "\n".join(leader.said for leader in arena.leaders)


def pod_path(arena: Arena, name: str) -> str:
    return f"{CORE}/namespaces/{arena.namespace}/pods/{name}"


def _patched(arena: Arena, path: str, where: str, value: Any) -> None:
    done = arena.api.patch(path, [{"op": "add", "path": where, "value": value}])
    assert isinstance(done, dict), done


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and the course that it befalls. `ready_s`: how long a replica takes to serve."""

    course: str
    deed: Deed
    ready_s: float = 0.0

    def verdict(self, stage: Stage, name: str) -> Verdict:
        """What came of it."""
        return trial(stage, name, replace(COURSES[self.course], ready_s=self.ready_s), meddle=meddling(self.deed))


# No replica is remade and serves between a look and the write that follows: it would be killed by that, as nobody could know.
REMADE_S = 4.0
FAULTS: Mapping[str, Case] = {
    "the API server is stopped": Case("drain first", troubled(lambda _: Trouble(drops=True))),
    "the API server hangs": Case("a switch", troubled(lambda _: HANGS)),
    "the API server takes 1.5 s for everything": Case("a switch", troubled(lambda _: Trouble(wait_s=1.5), 20.0)),
    "every second write is a conflict": Case("drain first", troubled(every(2, Trouble(status=409), lambda asked: asked.writes))),
    "every second request is one too many": Case("a drain", troubled(every(2, Trouble(status=429)))),
    "every second request fails inside the server": Case("drain first", troubled(every(2, Trouble(status=500)))),
    "every second write is done and nobody told": Case(
        "surge first", troubled(every(2, Trouble(loses_answer=True), lambda asked: asked.writes), 15.0)
    ),
    "all history is forgotten": Case("surge first", troubled(lambda asked: Trouble(status=410) if asked.watch else None)),
    "the certificate has run out": Case("a switch", expired),
    "two lead by turns": Case("a switch", two_lead),
    "two lead by turns, and one resizes": Case("drain first", two_lead),
    "the leader is cut off": Case("drain first", cut_off),
    "a victim of a drain is deleted": Case("a drain", at(Step.IDLE, deleted), REMADE_S),
    "a victim of a switch is evicted": Case("a switch", at(Step.IDLE, evicted), REMADE_S),
    "a victim of a resize is evicted": Case("drain first", at(Step.IDLE, evicted), REMADE_S),
    "a victim of a switch crashes": Case("a switch", at(Step.IDLE, crashed)),
    "a newcomer is deleted": Case("surge first", newcomer_deleted),
    "a pod never goes": Case("drain first", never_goes),
    "a pod never starts": Case("drain first", never_starts),
    "the clock jumps ahead": Case("a switch", at(Step.IDLE, jumps(HOUR_S))),
    "the clock jumps back": Case("a drain", at(Step.IDLE, jumps(-HOUR_S))),
}
