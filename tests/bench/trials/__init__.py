"""Where does the simulator agree with what is known, and where not? One room per source of knowledge.

    finding.py          a check beside what it should be, and a curve to be looked at
    strict.py           a ledger for trials in which every request has to be served
    exact_waits.py      queueing theory: what mean waits are, exactly
    queues.py           do prompts wait so? At one replica, and at several behind a gateway that holds
    per_gpu.py          DistServe's arithmetic of two pools
    silicon_rows.py     measured rows of real GPUs, per system
    split_curve.py      Mooncake FAST'25 Fig. 15: 16 nodes, split between the roles in seven ways
    ratio_walk.py       Narwhal's walk: the best split moves, and a flip costs little or a cold start
    early_rejection.py  Mooncake's rejection under overload: early, and with a prediction; rejection_gate.py has its limits

Each has a `trial()` that yields findings; `tests/bench/truth.py` runs them all.
"""
