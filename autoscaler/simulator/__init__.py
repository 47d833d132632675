"""What would a real fleet have done? Simulated engines under real traffic, driven by the real controller.

    workload.py      requests, and synthetic traffic: constant load, a day with bursts and a changing mix
    replay.py        recorded traffic: a part of it, for more or fewer users
    traces.py        the formats it is recorded in: Mooncake jsonl, Azure csv
    metrics.py       what each replica and the gateway would export, as plain counters
    events.py        what is going to happen (the agenda) and to whom (a job)
    queue_server.py  one prompt at a time, KV kept until somebody fetches it (prefill)
    batch_server.py  many requests share each step (decode)
    pools.py         replicas with a life: start, serve, drain, go
    engine.py        the event loop on a virtual clock
    sampling.py      signals as sparse and late as Prometheus has them
    cluster.py       the controller's writes
    score.py         how good was it: SLO attainment over offered requests, GPU-hours, reversals
    run.py           a whole run on the virtual clock, with the real controller
    exposition.py    the counters as a /metrics page
    exporters.py     the fleet in real time, for a real Prometheus to scrape

One request costs a handful of events, never one per token, so an hour of real traffic takes well under a second
(reference/models.md A). Left out on purpose for now, so that nobody reads more into a result than is in it: chunked
prefill and batching of prompts, preemption in decode, contention on the transfer link, and prefix caches that live
on one replica and are lost with it.
"""
