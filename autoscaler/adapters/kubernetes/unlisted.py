"""Why are the PDAutoscalers of a namespace not known, and what helps?"""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.policy.crd.definition import GROUP, PLURAL

UNANSWERED = "Unanswered"  # a snapshot's word for a server that was never heard


def told_of(faults: Mapping[str, ApiFault | None]) -> str:
    """Why the lists of these namespaces are not known, in one line with what to do; empty if all is well."""
    lines = [f"PDAutoscalers of namespace {name}: {_advice(name, fault)}" for name, fault in faults.items() if fault]
    more = f" (and {len(lines) - 1} more namespaces)" if len(lines) > 1 else ""
    return f"{lines[0]}{more}" if lines else ""


def _advice(namespace: str, fault: ApiFault) -> str:
    if fault.reason == UNANSWERED:
        return "no answer yet"
    if fault.status == 404:
        return "their CRD is not installed: autoscaler crd | kubectl apply -f -"
    if fault.status == 403:
        return f"{fault}; a Role in {namespace} must allow list and watch of {PLURAL} in {GROUP}"
    return str(fault)
