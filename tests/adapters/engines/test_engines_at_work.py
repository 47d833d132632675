"""What do looks find at engines that have work, from the first request to the last KV that is fetched?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from autoscaler.adapters.engines.client import Answer, Engine, ask
from autoscaler.adapters.engines.idle import Load, Looks, look
from autoscaler.core.fleet import Role
from tests.engines.contract import Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.ledger import Stage
from tests.engines.sglang import Sglang
from tests.engines.vllm import Vllm

MANY = 3


def prompt(stub: StubEngine, profile: str, request: str) -> Answer:
    """Send a prompt of 1,000 tokens to a prefill engine, and wait until it is computed."""
    body = stub.contract.prefill_body(request, stub, 1000, 8)
    answer = ask(Engine(profile, "127.0.0.1", stub.port), stub.contract.GENERATE[0], 30.0, send=body)
    assert isinstance(answer, Answer)
    return answer


def reach(stub: StubEngine, fleet: StubFleet, stage: Stage, count: int) -> None:
    ends_s = time.monotonic() + 30.0
    while sum(leg.stage is stage for leg in fleet.ledger.legs()) < count:
        assert time.monotonic() < ends_s, [str(leg) for leg in fleet.ledger.legs()]
        time.sleep(0.001)


def test_sglang_has_each_request_once_until_its_kv_is_fetched(fleet: StubFleet) -> None:
    stub = fleet.start("prefill-0", Launch(Role.PREFILL, dp_ranks=2, tp_ranks=4), Sglang)
    engine = Engine("sglang", "127.0.0.1", stub.port)
    assert look(engine, Role.PREFILL) == Load(0)
    stub.takes_s = float("inf")
    with ThreadPoolExecutor(MANY) as users:
        answers = [users.submit(prompt, stub, "sglang", str(n)) for n in range(MANY)]
        reach(stub, fleet, Stage.RUNNING, MANY)
        assert look(engine, Role.PREFILL) == Load(MANY)
        stub.release()
        assert [answer.result().status for answer in answers] == [200] * MANY
    assert look(engine, Role.PREFILL) == Load(MANY), "computed, and fetched by nobody yet"
    for n in range(MANY):
        stub.hand_over(str(n), lambda: True)
    assert look(engine, Role.PREFILL) == Load(0)


def test_vllm_is_quiet_and_not_idle_until_its_kv_is_fetched(fleet: StubFleet) -> None:
    stub = fleet.start("prefill-0", Launch(Role.PREFILL), Vllm)
    engine = Engine("vllm", "127.0.0.1", stub.port)
    assert prompt(stub, "vllm", "1").status == 200
    found = look(engine, Role.PREFILL)
    assert found == Load(0, held=0.01)
    looks = Looks().after(found, 0.0)
    assert (looks.count, looks.why) == (0, "1.0% of its KV memory is still to be fetched; waits 30 s more at most")
    stub.hand_over("1", lambda: True)
    assert looks.after(look(engine, Role.PREFILL), 1.0).count == 1


def test_metrics_that_go_missing_make_an_idle_engine_busy(fleet: StubFleet) -> None:
    stub = fleet.start("decode-0", Launch(Role.DECODE, dp_ranks=2), Vllm)
    engine = Engine("vllm", "127.0.0.1", stub.port)
    assert look(engine, Role.DECODE) == Load(0)
    stub.hidden = {"vllm:num_requests_running"}
    assert look(engine, Role.DECODE) == Load(0, missing=("vllm:num_requests_running",))
