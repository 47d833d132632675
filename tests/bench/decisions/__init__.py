"""What must the controller reach, and beside whom? One room per kind of target of `make bench NAME=decision`.

claims.py        scenarios: ours beside the oracle, the best fixed fleet, and every baseline's line
fixed_fleet.py   a fleet whose size is given: only the split can follow the load
six_engines.py   Narwhal's walk on six engines, by each way to flip
moving_ratio.py  how much load is carried when its ratio moves: ours, the best-timed flips, the best fixed split
remembered.py    what of a comparison need not be played again
"""
