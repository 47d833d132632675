"""How does an engine speak as SGLang? (reference/engines.md B.1, B.3, C.2)

Both legs of a request come at once with the same `bootstrap_room`; the prefill engine is the one whose address they name.
`POST /pd_role_switch` answers 200 if the engine has the role now, 400 with the same fields if not; an engine that is not
fully idle (KV held counts) refuses and stays as it was. `/server_info` keeps the launch's role in the server arguments
and has the live one in `internal_states`. The label `engine_type` keeps the launch's role, too.

Not here: the bootstrap handshake (a prefill leg runs before its decode leg has come), and histograms other than those
whose edges are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from autoscaler.core.fleet import Role
from autoscaler.simulator.metrics import Buckets
from tests.engines.contract import Body, Flag, Load, Switching
from tests.engines.engine import StubEngine
from tests.engines.ledger import Leg, Stage
from tests.engines.loopback import NOT_FOUND, Answer, Request, told

TTFT_EDGES_S = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0)
ITL_EDGES_S = (
    0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0,
    4.0, 6.0, 8.0,
)  # fmt: skip
BY_STAGE: Mapping[str, Stage] = {
    "num_running_reqs": Stage.RUNNING,
    "num_queue_reqs": Stage.WAITING,
    "num_prefill_inflight_queue_reqs": Stage.HELD,
    "num_decode_prealloc_queue_reqs": Stage.PREALLOCATING,
    "num_decode_transfer_queue_reqs": Stage.FETCHING,
}
# Nothing in a stub makes these move; a test that needs them says so (`lies`).
AT_REST = (
    "num_grammar_queue_reqs", "num_retracted_reqs", "num_paused_reqs", "num_prefill_bootstrap_queue_reqs",
    "pending_prealloc_token_usage", "kv_evictable_tokens", "gen_throughput", "cache_hit_rate", "utilization",
)  # fmt: skip
# Arguments of the server that decide whether it can switch, as it is launched without a word about them.
ARGUMENTS: Mapping[str, Any] = {
    "enable_dp_attention": False,
    "ep_size": 1,
    "moe_a2a_backend": "none",
    "disable_radix_cache": False,
    "mem_fraction_static": 0.85,
    "disaggregation_transfer_backend": "mooncake",
}
UNTOUCHED = ("num_bootstrap_failed_reqs", "num_transfer_failed_reqs", "num_prefill_retries", "num_retracted_requests")


@dataclass(frozen=True, slots=True)
class Switched:
    """The body of an answer to /pd_role_switch."""

    success: bool
    message: str
    old_role: str
    new_role: str
    safe_to_restore: bool


class Sglang:
    """One engine's SGLang side."""

    GENERATE: tuple[str, ...] = ("/generate", "/v1/completions", "/v1/chat/completions")
    TOGETHER = True
    PATIENCE_S = float("inf")  # SIGTERM waits for what runs; only SIGKILL bounds it
    HELD_IS_WORK = True

    def __init__(self, engine: StubEngine) -> None:
        self._engine = engine
        self._requests = self._prompt = self._generated = 0
        self._ttft_s, self._itl_s = Buckets(TTFT_EDGES_S), Buckets(ITL_EDGES_S)

    @staticmethod
    def prefill_body(request: str, prefill: StubEngine, prompt_tokens: int, output_tokens: int) -> Body:
        """What a router sends to both engines."""
        room = {"bootstrap_host": prefill.address[0], "bootstrap_port": prefill.port, "bootstrap_room": request}
        return {"input_ids": [1] * prompt_tokens, "sampling_params": {"max_new_tokens": output_tokens}, **room}

    @staticmethod
    def decode_body(body: Body, answer: Body, output_tokens: int) -> Body:
        """The same."""
        return body

    def leg(self, body: Body) -> Leg | Answer:
        """With a room: the prefill at the address it names, the decode anywhere else."""
        prompt, sampling = body.get("input_ids") or body.get("prompt"), body.get("sampling_params") or body
        room, host, port = (body.get(f"bootstrap_{what}") for what in ("room", "host", "port"))
        if room is None or host is None or port is None:
            return told({"error": "a disaggregated engine needs bootstrap_room, bootstrap_host and bootstrap_port"}, 400)
        prompt_tokens = len(prompt) if isinstance(prompt, list) else 1
        output_tokens = sampling.get("max_new_tokens") or sampling.get("max_tokens") or 1
        if (host, port) == self._engine.address:
            return Leg(str(room), Role.PREFILL, prompt_tokens, output_tokens, keeps_kv=True)
        return Leg(str(room), Role.DECODE, prompt_tokens, output_tokens, source=(host, port))

    def done(self, leg: Leg) -> None:
        """A prefill leg computes the prompt, a decode leg generates; both have a first token."""
        self._requests += 1
        self._prompt += leg.prompt_tokens * leg.keeps_kv
        self._generated += 1 if leg.keeps_kv else leg.output_tokens
        self._ttft_s.observe(self._engine.takes_s)
        if not leg.keeps_kv:
            self._itl_s.observe(self._engine.takes_s / leg.output_tokens, leg.output_tokens)

    def reply(self, leg: Leg) -> Answer:
        """What /generate says at the end."""
        meta = {"id": leg.request, "prompt_tokens": leg.prompt_tokens, "completion_tokens": leg.output_tokens}
        return told({"text": "x", "meta_info": meta | {"finish_reason": {"type": "length"}}})

    def answer(self, request: Request) -> Answer | None:
        """Health by a generated token, roles, loads."""
        match request.method, request.path:
            case "GET", "/health_generate":
                return Answer(200 if self._engine.accepting and self._engine.healthy else 503, b"", "text/plain")
            case "GET", "/server_info" | "/get_server_info":
                return told(self._info())
            case "GET", "/v1/loads":
                return told(self._loads())
            case "POST", "/pd_role_switch":
                return self._switch(request.body)
        return NOT_FOUND

    def families(self, loads: list[Load]) -> Iterator[Metric]:
        """Gauges per DP rank and TP rank; counters and histograms at the first of each."""
        tokens, slots = self._engine.launch.kv_tokens, self._engine.launch.slots
        values: dict[str, list[float]] = {name: [load.stages[at] for load in loads] for name, at in BY_STAGE.items()}
        used = [float(load.kv_tokens) for load in loads]
        values |= dict.fromkeys(("num_used_tokens", "kv_used_tokens"), used)
        values |= {name: [one / tokens for one in used] for name in ("token_usage", "full_token_usage")}
        values["kv_available_tokens"] = [tokens - one for one in used]
        values["fwd_occupancy"] = [load.stages[Stage.RUNNING] / slots for load in loads]
        values |= {
            "max_total_num_tokens": [float(tokens)] * len(loads),
            "max_running_requests_under_SLO": [float(slots)] * len(loads),
        }
        values |= {name: [0.0] * len(loads) for name in AT_REST}
        for name, ranks in values.items():
            yield self._gauge(name, ranks)
        counters = {"prompt_tokens": self._prompt, "generation_tokens": self._generated, "num_requests": self._requests}
        counters |= dict.fromkeys(UNTOUCHED, 0) | {"num_aborted_requests": 0}
        for name, value in counters.items():
            yield self._counter(name, value)
        yield self._histogram("time_to_first_token_seconds", self._ttft_s)
        yield self._histogram("inter_token_latency_seconds", self._itl_s)

    def _switch(self, body: object) -> Answer | None:
        launch = self._engine.launch
        if launch.role_switch is Flag.UNKNOWN:
            return NOT_FOUND
        wanted = body.get("new_role") if isinstance(body, dict) else None
        switched = self._refusal(wanted) or self._turn(Role(str(wanted)))
        if switched is None:
            return None
        fields = asdict(switched)
        if not self._engine.tells_restore:
            del fields["safe_to_restore"]
        return told(fields, 200 if switched.success else 400)

    def _refusal(self, wanted: object) -> Switched | None:
        """Why there is nothing to switch. From here on to its end a switch takes nothing in."""
        engine = self._engine
        with engine.changed:
            role, busy = str(engine.role), engine.open or engine.switching is Switching.REFUSES
            cases = (
                (engine.launch.role_switch is Flag.OFF, "launched without --enable-pd-role-switch", False, True),
                (wanted not in tuple(Role), f"invalid new_role: {wanted}", False, True),
                (not engine.healthy, "unhealthy after an earlier switch, restart required", False, False),
                (engine.turning, "another switch is in progress", False, False),
                (wanted == role, "already in target role", True, True),
                (busy, "the instance is not idle", False, True),
            )
            for holds, message, success, safe in cases:
                if holds:
                    return Switched(success, message, role, str(wanted), safe)
            engine.turning = True
        return None

    def _turn(self, to: Role) -> Switched | None:
        """The switch itself; None if the engine ended meanwhile."""
        engine, old = self._engine, str(self._engine.role)
        ended = engine.gone.wait(engine.switch_s)
        with engine.changed:
            engine.turning = False
            breaks, pretends = engine.switching is Switching.BREAKS, engine.switching is Switching.PRETENDS
            engine.healthy, engine.deceived = engine.healthy and not breaks, engine.deceived or pretends
            if not breaks and not pretends:
                engine.role = to
            engine.changed.notify_all()
        if breaks:
            return Switched(False, "rebuilding failed: instance unhealthy, restart required", old, to, False)
        return None if ended else Switched(True, "role switched", old, to, True)

    def _info(self) -> Body:
        launch, live = self._engine.launch, str(self._engine.told_role or self._engine.role)
        arguments: Body = {
            "served_model_name": launch.model,
            "tp_size": launch.tp_ranks,
            "dp_size": launch.dp_ranks,
            "pp_size": 1,
        }
        arguments |= {"disaggregation_mode": str(launch.role), "enable_pd_role_switch": launch.role_switch is Flag.ON}
        arguments |= {**ARGUMENTS, **launch.arguments}
        return arguments | {"internal_states": [{"disaggregation_mode": live} for _ in range(launch.dp_ranks)]}

    def _loads(self) -> Body:
        live = str(self._engine.told_role or self._engine.role)
        return {"loads": [_load(rank, load, live) for rank, load in enumerate(self._engine.shown())]}

    def _ranks(self, dp_rank: int) -> Iterable[list[str]]:
        launch = self._engine.launch
        for tp_rank in range(launch.tp_ranks):
            yield [launch.model, str(launch.role), str(tp_rank), "0", "0", str(dp_rank)]

    def _gauge(self, name: str, ranks: list[float]) -> Metric:
        family = GaugeMetricFamily(f"sglang:{name}", _about(name), labels=LABELS)
        for dp_rank, value in enumerate(ranks):
            for labels in self._ranks(dp_rank):
                family.add_metric(labels, value)
        return family

    def _counter(self, name: str, value: float) -> Metric:
        family = CounterMetricFamily(f"sglang:{name}", _about(name), labels=LABELS)
        family.add_metric(next(iter(self._ranks(0))), value)
        return family

    def _histogram(self, name: str, buckets: Buckets) -> Metric:
        family = HistogramMetricFamily(f"sglang:{name}", _about(name), labels=LABELS)
        edges = [*map(str, buckets.edges), "+Inf"]
        cumulative = list(zip(edges, accumulate(buckets.counts), strict=True))
        family.add_metric(next(iter(self._ranks(0))), cumulative, buckets.total)
        return family


LABELS = ("model_name", "engine_type", "tp_rank", "pp_rank", "moe_ep_rank", "dp_rank")


def _about(name: str) -> str:
    return f"{name.replace('_', ' ').capitalize()}."


def _load(dp_rank: int, load: Load, mode: str) -> Body:
    """One rank's entry in /v1/loads."""
    queues = {name.removeprefix("num_"): load.stages[at] for name, at in BY_STAGE.items()}
    disaggregation: Body = {name: queues[name] for name in queues if name.startswith(("prefill_", "decode_"))}
    disaggregation |= {"mode": mode, "prefill_bootstrap_queue_reqs": 0, "decode_retracted_queue_reqs": 0}
    running, waiting = load.stages[Stage.RUNNING], load.stages[Stage.WAITING]
    core: Body = {"dp_rank": dp_rank, "num_running_reqs": running, "num_waiting_reqs": waiting, "num_used_tokens": load.kv_tokens}
    return {**core, "disaggregation": disaggregation, "queues": {"waiting": waiting, "grammar": 0, "paused": 0, "retracted": 0}}
