"""What would a real fleet have done? Simulated engines under real traffic, driven by the real controller.

    workload.py      requests, and synthetic traffic: constant load, a day with bursts and a changing mix
    shapes.py        how its rate moves: steady, wave, spike, on and off, a walk of the prefill-to-decode ratio
    replay.py        recorded traffic: a part of it, for more or fewer users
    traces.py        the formats it is recorded in; trace_lines.py reads them line by line, and mooncake.py, csv_traces.py and
                     servegen.py know one each
    scenarios.py     the situations a policy is judged in (scenarios.yaml); scenario_file.py reads one, with its load
                     (scenario_load.py), its fleet (scenario_fleet.py) and its conditions (scenario_conditions.py)
    profile_fit.py   a replica profile from measurements.py; profile_files.py finds one, silicon.py tells how far it is off
    metrics.py       what each replica and the gateway would export, as plain counters
    events.py        what is going to happen (the agenda) and to whom (a job)
    streams.py       random numbers by seed, purpose and index, so that policies are compared on the same luck
    queue_server.py  one prompt at a time, KV kept until somebody fetches it (prefill)
    prefix_cache.py  which prompts it need not compute again
    batch_server.py  many requests share each step (decode)
    link.py          what KV travels over, if all share it
    replicas.py      one replica, its life and its servers
    provisioning.py  nodes, quotas, and waiting for them
    routing.py       which replica gets the next request
    pool_setting.py  what a pool is made of
    pools.py         replicas with a life: start, serve, drain, go
    flips.py         a replica changes its role, by driver
    flights.py       flips under way, and whose GPUs they hold
    clients.py       how users' clients try again
    front.py         what becomes of a request, from its arrival to its answer
    early_rejection.py   who is turned away when a fleet is full, by Mooncake's rules; sidecars.py: by this product's
    losses.py        replicas and nodes that die
    fleet_spec.py    which fleet is simulated
    engine.py        the event loop on a virtual clock
    sampling.py      signals as sparse and late as Prometheus has them
    cluster.py       the controller's writes
    score.py         how good was it: SLO attainment over offered requests, GPU-hours, what was wasted
    reach.py         the most that a fleet of any size could attain
    moves.py         which moves undid an earlier one
    recovery.py      how long a shift of the traffic hurt
    shifts.py        when the traffic shifted
    contenders.py    who plays, in which case; ground.py and tape.py know the case's requests beforehand
    comparison.py    one contender in one case; result.py says how it went, frontiers.py what equal attainment costs
    run.py           a whole run on the virtual clock, with the real controller
    past.py          what must have been recorded of a fleet's past to be played again
    rebuilt.py       recorded metrics become requests; spread.py knows how lengths lie inside a bucket
    backtest.py      that past played as it was, and under a policy
    peers/           other projects' sizing rules in the controller's seat, and what nobody can beat
    exposition.py    the counters as a /metrics page
    exporters.py     the fleet in real time, for a real Prometheus to scrape

One request costs a handful of events, never one per token, so an hour of real traffic takes well under a second
(reference/models.md A). Left out on purpose, so that nobody reads more into a result than is in it: chunked prefill and
batching of prompts, preemption in decode, ports of single replicas filling up, layers sent while the next is computed, and
replicas over several nodes. Each room says what it leaves out.
"""
