"""pd-autoscaler: keeps the prefill and decode pools of disaggregated LLM serving the right size.

The rooms, in reading order:

    core/decide.py           the tick on one screen; core/ is pure: no clock, no network, no logger

    core/reading.py          whether a value that was stored is what it must be
    core/fleet.py            what exists: roles, replicas, pools, flips under way
    core/profile.py          how fast one replica is
    core/calendar.py         how many replicas are wanted at this hour, whatever the load
    core/startup.py          how long a new replica takes to serve
    core/reason.py           the words in which every stage explains itself
    core/observation.py      what was seen, how old it is, whether it may be believed
    core/door.py             whom sidecars before a fleet let in and turn away, for people to see
    core/idle.py             since when nobody has sent anything, and when all may sleep

    core/foreseen.py         what is said of the load to come
    core/series.py           readings become even bins, and their accidents are taken out
    core/regression.py       autoregression by least squares
    core/arima.py            going on from an ARIMA fit that was made elsewhere
    core/candidates.py       what each model expects
    core/lens.py             which of them has earned the right to speak, and how far it is off
    core/forecast.py         what is coming, and who says so

    core/queueing.py         how long requests wait for one of n replicas
    core/capacity.py         what so many replicas carry within their SLO
    core/factors.py          how far a profile is off, by robust regression
    core/service_times.py    what a histogram tells of one prompt or one step
    core/calibration.py      the profile corrected by what is measured
    core/attribution.py      whose work it is that waits
    core/strain.py           what the latency itself says
    core/demand.py           how many replicas a load makes, and what bound it
    core/resident.py         what a request in a batch really holds
    core/hits.py             the share that caches hold, and when to believe it
    core/hysteresis.py       tolerance, stabilization, cooldown, steps: demand becomes a target
    core/action.py           what can be done, and what became of it
    core/flip.py             which flip is worth it
    core/policy.py           what the owner wants
    core/sizing.py           one role from its load to its demand: now, soon, and for long
    core/plan.py             actions, and the one guard that applies the laws

    core/transaction.py      a change that takes more than one write, and its way to the end and back
    core/sight.py            what is seen of the replicas that one is about
    core/transit.py          what its next step is
    core/come_true.py        when a step has come true
    core/duties.py           what must be done at a step
    core/transaction_record.py  the same as it is stored

    core/qos.py              what the owner wants of rejection: classes, modes, strategies
    core/arrivals.py         one request, and what was let in since the last picture
    core/outlook.py          what whoever comes now finds ahead
    core/expected.py         what one request has to expect of it
    core/rejection.py        the words: rules, reasons, verdict
    core/judge.py            whether it is let in
    core/breaker.py          when a phase is so far behind that it stops
    core/published.py        the picture that a verdict rests on

    core/explain.py          every stage's value turned into the reason chain
    core/conditions.py       what can be said of a fleet in a few sentences
    core/state.py            what must outlive this process
    core/pool_status.py      what happened to one pool, for people and machines
    core/status.py           what happened to the fleet

    policy/                  the PDAutoscaler document -> the frozen policy of the core
    policy_file.py           the files it is written in, with the line of every mistake
    refusal.py               what is an error of the user's, not of ours
    ports.py                 the doors the controller needs; adapters/ and simulator/ fill them
    roster.py                a policy as the fleet that the controller manages
    errands.py               what may hang, and how long it is waited for
    fitting.py               who gets a new ARIMA fit, and when it is in
    publishing.py            what sidecars are told, from engines asked a moment ago
    rebuilding.py            what a new process would know, had it been there all along
    controller.py            observe, decide, act, report
    conductor/               who moves drains and flips on, once a tick has begun them
    scheduling.py            when ticks happen
    adapters/                Prometheus, Kubernetes, clock, ARIMA's process, simulated cluster, log, own metrics: one thing each
    sidecar/                 the verdict as a service: one process beside a gateway, microseconds each
    companion/               what HPA, KEDA and API servers ask: external metrics, KEDA's page, the admission webhook, over TLS
    apps/                    the live page and its machine-readable twins; probes and metrics for a cluster
    simulator/               a fleet of simulated engines under real traffic, driving the real controller
    commands/                one room per command: how it is put together
    options.py               what can be told to several commands
    cli.py                   which commands there are, and what can be told to each
"""

__version__ = "0.1.0"
