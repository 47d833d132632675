"""How is a replica taken out of routing, and let in again in the role it shall have?

    endpoint.py         a replica as routing sees it, the one door (`Routing`), and a refusal that is final
    pods.py             one pod read and changed, and what became of it
    label.py            by a pod label that the router reads: llm-d, production-stack, any router with such a rule
    readiness.py        by a readiness gate of our own: out and in, for whatever follows Ready
    sglang_gateway.py   by the SGLang model gateway's list of workers
    gateway_client.py   one bounded request to it
    grace.py            what a pod that is deleted while it works has left to finish

Each way asks for a state and never for a change of it, so asking twice is asking once. Nothing here waits for the router:
`routed` tells when what was asked for has come true.
"""

from autoscaler.adapters.routing.endpoint import Endpoint, Refused, Routing
from autoscaler.adapters.routing.gateway_client import GatewayClient
from autoscaler.adapters.routing.grace import Stopping, complaints, stopping
from autoscaler.adapters.routing.label import LabelRouting
from autoscaler.adapters.routing.readiness import GATE, ReadinessRouting
from autoscaler.adapters.routing.sglang_gateway import SglangGatewayRouting

__all__ = [
    "GATE",
    "Endpoint",
    "GatewayClient",
    "LabelRouting",
    "ReadinessRouting",
    "Refused",
    "Routing",
    "SglangGatewayRouting",
    "Stopping",
    "complaints",
    "stopping",
]
