"""What may be written to a cluster that has managed fleets?

Answers of an admission webhook (AdmissionReview v1). One review and what is known of the fleets give one ruling; nothing is
written, asked or remembered, so a dry run is answered like any other (sideEffects: None), and two replicas answer alike.

review.py      what the API server asks, and how it is answered byte for byte
strictness.py  how hard a rule bites, and who says so
fleets.py      which fleets are known, and whose an object is
policies.py    POST /admission/policies: is this PDAutoscaler one that can be worked by?
guard.py       POST /admission/scale: may this one change a count that is ours?
demand.py      which load a batch object says that it brings
load.py        POST /admission/load: has the fleet room for it?
injection.py   POST /admission/pods: the readiness gate and the role label that a new pod was promised
routes.py      the four doors

Who cannot tell, allows, with a warning: state that is stale or missing, an object that cannot be read, a fleet that nobody knows.
Outside mode Auto nothing is denied but a PDAutoscaler that cannot be worked by (law 13).
"""
