"""pd-autoscaler: keeps the prefill and decode pools of disaggregated LLM serving the right size.

The rooms, in reading order:

    core/decide.py       the tick on one screen; core/ is pure: no clock, no network, no logger
    core/fleet.py        what exists: roles, replicas, pools
    core/startup.py      how long a new replica takes to serve
    core/reason.py       the words in which every stage explains itself
    core/observation.py  what was seen, how old it is, whether it may be believed
    core/forecast.py     what is coming, and which model earned the right to say so
    core/profile.py      how fast one replica is
    core/capacity.py     what one replica carries within its SLO
    core/demand.py       how many replicas that makes, and what bound it
    core/hysteresis.py   tolerance, stabilization, cooldown, steps: demand becomes a target
    core/plan.py         actions, and the one guard that applies the laws
    core/explain.py      every stage's value turned into the reason chain
    core/conditions.py   what can be said of a fleet in four sentences
    core/state.py        what must outlive this process
    core/status.py       what happened, for people and machines
    policy/              the PDAutoscaler document -> the frozen policy of the core
    policy_file.py       the files it is written in, with the line of every mistake
    refusal.py           what is an error of the user's, not of ours
    ports.py             the doors the controller needs; adapters/ and simulator/ fill them
    roster.py            a policy as the fleet that the controller manages
    errands.py           what may hang, and how long it is waited for
    controller.py        observe, decide, act, report
    scheduling.py        when ticks happen
    adapters/            Prometheus, Kubernetes, clock, simulated cluster, log, own metrics: one outside thing each
    apps/                the live page and its machine-readable twins; probes and metrics for a cluster
    simulator/           a fleet of simulated engines under real traffic, driving the real controller
    commands/            one room per command: how it is put together
    cli.py               which commands there are, and what can be told to each
"""

__version__ = "0.1.0"
