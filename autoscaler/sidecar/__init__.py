"""The sidecar: says no in microseconds to a request that would miss its SLO anyway, and only where it is sure.

The rooms, in reading order:

    state.py     the document that the leader publishes, and whether it may be believed
    board.py     what a sidecar knows: the latest picture, what it let in since, and who else does
    headers.py   what the headers of a request tell: class, SLO, lengths, which try it is
    bodies.py    what its body tells, whole or cut
    skins.py     the ways in which gateways ask
    answers.py   what they are told, as bytes made ahead
    turns.py     when somebody who was turned away may come again
    ledger.py    what was admitted and rejected, and what shadow mode would have done
    desk.py      one request from its headers to its answer
    hot.py       the raw ASGI application in front of all else
    express.py   the same without ASGI, for requests that come whole in one read
    counts.py    the counters of all workers, and /metrics
    pages.py     health, metrics and the ledger, behind it
    feed.py      the long poll that keeps the board fresh
    bounds.py    how long a client may take, and how much it may send
    workers.py   one port, several processes

The hot path imports neither statsmodels, pandas nor a Kubernetes client, takes no lock and writes no log.
"""
