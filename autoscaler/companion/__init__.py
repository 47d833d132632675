"""The companion: what HPA, KEDA and API servers ask of us, answered by processes of their own that hold no state.

The rooms, in reading order:

    told.py          what one PDAutoscaler's status tells, and whether it may be believed
    failures.py      how an API server is told that something cannot be answered

    selectors.py     which series a label selector means
    metrics.py       which numbers may be given, and when: all that are meant, or none
    external.py      a number as HPA gets it
    discovery.py     what an API server learns before it asks for one
    callers.py       who asks, and whether he is to be believed
    app.py           the routes of external metrics
    keda.py          a number as KEDA gets it

    admission/       what may be written to a cluster that has managed fleets

    certificates.py  with what we prove who we are
    rotation.py      how several replicas change to a new certificate
    issuing.py       where the serving certificate comes from
    front_proxy.py   which front proxy is trusted right now
    tls.py           how both change while connections are open
    upkeep.py        what has to be done again and again
    pages.py         health and metrics of its own
    serving.py       TLS, and an end without an unanswered request
"""
