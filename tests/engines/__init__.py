"""Which engines and gateways do tests talk to where none runs? Stubs that keep the real ones' HTTP and metrics contracts.

ledger.py        every request that an engine took, and how it ended: what was lost is seen, and through whom
loopback.py      an HTTP server of a test's own, and what can go wrong with its answers
contract.py      what differs from one kind of engine, and from one launch, to another
engine.py        the life of one engine: it queues, runs, keeps KV until it is fetched, switches, ends
sglang.py        what it says as SGLang
vllm.py          what it says as vLLM
metrics_page.py  what a scraper reads from one
fleet.py         engines that reach each other for KV, with one ledger
routing.py       who gets new requests, as llm-d's filters decide by label
smg.py           the same as the SGLang model gateway decides, with its workers API
traffic.py       users: pairs of prefill and decode requests at a given rate
on_plane.py      an engine behind each pod of a real control plane
"""
