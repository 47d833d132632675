"""How many requests are in an engine, read from what engines really expose: missing is busy, and a rank counts once."""

from __future__ import annotations

import pytest

from autoscaler.adapters.engines.client import Engine, EngineFault, FaultKind
from autoscaler.adapters.engines.idle import Load, load, look
from autoscaler.adapters.engines.queues import TELLINGS, Queues
from autoscaler.core.fleet import Role
from autoscaler.policy.profiles import metric_profiles
from tests.adapters.engines.conftest import Serve
from tests.engines.loopback import ABSENT, GARBAGE, HANGS, Answer, Fault

VLLM = TELLINGS["vllm"].queues
SGLANG = TELLINGS["sglang"].queues

VLLM_PREFILL = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 3.0
vllm:num_requests_running{engine="1",model_name="llama"} 2.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="llama"} 1.0
vllm:num_requests_waiting{engine="1",model_name="llama"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason="capacity"} 1.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="llama"} 0.75
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="llama"} what is this
"""


def resting(queues: Queues, **others: float) -> bytes:
    """Every owed metric at rest, under its newest name, but for `others` ("vllm:x" is written vllm_x)."""
    lines = {names[0].replace(":", "_", 1): 0.0 for names in queues.owed} | others
    return "".join(f'{name}{{model_name="llama"}} {value}\n' for name, value in lines.items()).encode()


def without(exposition: str, name: str) -> bytes:
    return "\n".join(line for line in exposition.splitlines() if not line.startswith(name)).encode()


def test_what_runs_and_waits_is_summed_over_data_parallel_ranks() -> None:
    assert load(VLLM_PREFILL.encode(), VLLM[Role.DECODE]) == Load(6)
    assert load(VLLM_PREFILL.encode(), VLLM[Role.PREFILL]) == Load(6, held=0.75)


@pytest.mark.parametrize("name", ["vllm:num_requests_running", "vllm:num_requests_waiting"])
def test_a_missing_metric_is_busy(name: str) -> None:
    found = load(
        without(VLLM_PREFILL.replace(" 3.0", " 0.0").replace(" 2.0", " 0.0").replace(" 1.0", " 0.0"), name), VLLM[Role.DECODE]
    )
    assert found == Load(0, missing=(name,))
    assert not found.quiet


@pytest.mark.parametrize(
    "body", [b"", b"\x00<html>{]", b"{}", b"# nothing but a comment\n", "vllm:num_requests_running".encode("utf-16")]
)
@pytest.mark.parametrize("profile", TELLINGS)
def test_an_answer_that_means_nothing_is_busy(profile: str, body: bytes) -> None:
    for queues in TELLINGS[profile].queues.values():
        found = load(body, queues)
        assert found.missing == tuple(names[0] for names in queues.owed)
        assert not found.quiet


def test_names_of_older_versions_are_known() -> None:
    newer = ("vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "num_prefill_bootstrap_queue_reqs")
    older = ("vllm:num_requests_waiting_by_reason", "vllm:gpu_cache_usage_perc", "num_prefill_prealloc_queue_reqs")
    text = without(VLLM_PREFILL, "vllm:num_requests_waiting").decode() + f'\n{older[0]}{{reason="capacity"}} 4\n'
    assert load(text.replace(newer[1], older[1]).encode(), VLLM[Role.PREFILL]) == Load(9, held=0.75)
    sglang = resting(SGLANG[Role.PREFILL], sglang_num_queue_reqs=2.0).decode()
    assert load(sglang.replace(newer[2], older[2]).encode(), SGLANG[Role.PREFILL]) == Load(2)


def test_names_with_the_colon_replaced_are_the_same() -> None:
    assert load(VLLM_PREFILL.replace("vllm:", "vllm_").encode(), VLLM[Role.PREFILL]) == Load(6, held=0.75)


@pytest.mark.parametrize(
    ("role", "queue"),
    [(role, names[0].replace(":", "_", 1)) for role in Role for names in (*SGLANG[role].owed, *SGLANG[role].more)],
)
def test_one_request_in_any_queue_is_busy(role: Role, queue: str) -> None:
    assert load(resting(SGLANG[role]), SGLANG[role]).quiet
    assert load(resting(SGLANG[role], **{queue: 1.0}), SGLANG[role]) == Load(1)


def test_ranks_that_tell_of_the_same_requests_count_once() -> None:
    """Two data-parallel ranks of two tensor ranks each; of a priority's classes the total has an empty label."""
    told = (
        'sglang:num_queue_reqs{{dp_rank="{dp}",tp_rank="{tp}",pp_rank="0",moe_ep_rank="{tp}",pid="{dp}{tp}",priority="{of}"}} {n}'
    )
    classes = (("", 3), ("1", 2), ("2", 1))
    ranks = "\n".join(told.format(dp=dp, tp=tp, of=of, n=n) for dp in "01" for tp in "01" for of, n in classes) + "\n"
    found = load(resting(SGLANG[Role.DECODE]).replace(b"sglang_num_queue_reqs", b"x") + ranks.encode(), SGLANG[Role.DECODE])
    assert found == Load(6)


def test_under_dp_attention_every_rank_is_heard() -> None:
    """There each data-parallel rank has another tp_rank, so only those with tp_rank 0 would miss what the last one does."""
    ranks = "".join(f'sglang:num_running_reqs{{dp_rank="{n}",tp_rank="{n}"}} {n // 7}\n' for n in range(8))
    found = load(resting(SGLANG[Role.DECODE]).replace(b"sglang_num_running_reqs", b"x") + ranks.encode(), SGLANG[Role.DECODE])
    assert found == Load(1)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (" NaN", "vllm:num_requests_running is nan"),
        (" +Inf", "vllm:num_requests_running is inf"),
        (" -1", "vllm:num_requests_running is -1"),
        (" many", "many"),
        ("", "Invalid value"),
        ("{ ,  ==_}n", "no sample"),
        ("{" + ",".join(f'a{n}="1"' for n in range(700)) + "} 0", "a line of 6218 characters"),
    ],
)
def test_what_is_no_number_of_requests_cannot_be_read(line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        load(f"vllm:num_requests_running{line}\n".encode(), VLLM[Role.DECODE])


def test_more_ranks_than_there_are_cannot_be_read() -> None:
    ranks = "".join(f'vllm:num_requests_running{{engine="{n}"}}\n' for n in range(10_001))
    with pytest.raises(ValueError, match="more than 10000 lines"):
        load(ranks.encode(), VLLM[Role.DECODE])


def test_requests_that_a_worker_of_dynamo_carries_count() -> None:
    for profile in TELLINGS.values():
        queues = profile.queues[Role.DECODE]
        assert load(resting(queues, dynamo_component_inflight_requests=2.0), queues) == Load(2)


def test_every_engine_that_a_policy_can_name_is_known_in_every_role() -> None:
    assert set(metric_profiles("engine")) == set(TELLINGS)
    assert all(set(telling.queues) == set(Role) for telling in TELLINGS.values())


def test_one_that_is_not_known_is_never_idle() -> None:
    fault = look(Engine("mystery", "127.0.0.1", 8000), Role.DECODE)
    assert isinstance(fault, EngineFault)
    assert "nobody knows which metrics of 'mystery' count its requests" in fault.detail


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (HANGS, FaultKind.TIMEOUT),
        (ABSENT, FaultKind.ABSENT),
        (Fault(answer=Answer(503, b"starting")), FaultKind.REFUSED),
        (Fault(answer=Answer(200, b"vllm:num_requests_running{ 0\n")), FaultKind.MALFORMED),
        (Fault(answer=Answer(200, b"vllm:num_requests_running NaN\n")), FaultKind.MALFORMED),
    ],
)
def test_a_look_at_an_engine_that_fails_is_a_fault(serve: Serve, fault: Fault, kind: FaultKind) -> None:
    server = serve(lambda _: None)
    server.faults["/metrics"] = fault
    found = look(Engine("vllm", "127.0.0.1", server.port), Role.DECODE, 0.02 if fault is HANGS else 2.0)
    assert isinstance(found, EngineFault)
    assert found.kind is kind


def test_garbage_is_busy(serve: Serve) -> None:
    server = serve(lambda _: None)
    server.faults["/metrics"] = GARBAGE
    found = look(Engine("sglang", "127.0.0.1", server.port), Role.PREFILL)
    assert isinstance(found, Load)
    assert len(found.missing) == 4


def test_trtllm_is_asked_at_its_own_path_and_a_worker_of_dynamo_at_the_usual_one(serve: Serve) -> None:
    queues = TELLINGS["trtllm"].queues[Role.DECODE]
    bodies = {"/prometheus/metrics": resting(queues, trtllm_num_requests_running=5.0), "/metrics": resting(queues)}
    server = serve(lambda request: Answer(200, bodies[request.path]))
    engine = Engine("trtllm", "127.0.0.1", server.port)
    assert look(engine, Role.DECODE) == Load(5)
    server.faults["/prometheus/metrics"] = ABSENT
    assert look(engine, Role.DECODE) == Load(0)
