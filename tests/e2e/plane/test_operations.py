"""What happens when people and clusters do to a running controller what they do: stop it, delete, swap, edit, forge?

The real command over one fleet, or two. A human always wins the moment; the controller goes on from what stands there then,
and where it cannot, it says what to do.
"""

from __future__ import annotations

import json
import logging
import shlex
import time
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.errands import WORKERS
from tests.e2e.plane.hanging import NEVER_S
from tests.e2e.plane.sites import STEPS, Running, Site, Sites, prometheus, sites
from tests.e2e.plane.workloads import policy
from tests.e2e.processes import wait_for

__all__ = ["prometheus", "sites"]  # fixtures

pytestmark = [pytest.mark.plane, pytest.mark.slow]

log = logging.getLogger(__name__)

CROWD = 200
LEASES = "/apis/coordination.k8s.io/v1/namespaces"


def at_work(sites: Sites) -> tuple[Site, Running]:
    """A fleet that has grown once, and its controller."""
    site = sites.site()
    site.create()
    running = sites.running(site.namespace)
    site.grows(STEPS[0])
    site.until(lambda: site.status().get("state", {}).get("desired"), "what was asked for is noted")
    return site, running


def forge(site: Site, *operations: dict[str, object]) -> None:
    """Edit the status by hand."""
    site.kubectl("patch", "pda/chat", "--subresource=status", "--type=json", "-p", json.dumps(operations))


def cure(site: Site, told: str) -> None:
    """Do what the controller tells an operator to do, to the letter."""
    site.kubectl(*shlex.split(told[told.index("kubectl patch ") :])[1:])


def state(site: Site) -> dict[str, object]:
    """The durable state in the status."""
    stored: dict[str, object] = site.status().get("state") or {}
    return stored


def test_sigterm_while_a_write_hangs_ends_soon_and_leaves_the_lease_to_run_out(sites: Sites) -> None:
    hook, (site, running) = sites.webhook(), at_work(sites)
    hook.delay_s = NEVER_S
    with hook.guarding(sites.plane, site.namespace, "leaderworkerset.x-k8s.io", "leaderworkersets/scale"):
        site.offer(STEPS[1])
        wait_for(lambda: hook.asked, "a write hangs")
        took_s = running.process.end()
    log.info("s from SIGTERM to the end, with a write that hangs: %.2f", took_s)
    assert took_s < 3.0
    assert "a write was still in flight" in running.log()
    lease = sites.api.get(f"{LEASES}/{site.namespace}/leases/pd-autoscaler")
    assert not isinstance(lease, ApiFault)
    assert (bool(lease["spec"]["holderIdentity"]), lease["spec"]["leaseDurationSeconds"]) == (True, 16)


def test_a_lease_that_is_deleted_begins_a_later_term_and_the_leader_goes_on(sites: Sites) -> None:
    site, running = at_work(sites)
    assert state(site)["epoch"] == 0
    site.kubectl("delete", "lease/pd-autoscaler")
    wait_for(lambda: running.until_leading() == 1, "a new term")
    site.until(lambda: state(site)["epoch"] == 1, "the object is claimed for it")
    site.grows(STEPS[1])


def test_a_status_removed_or_edited_into_a_newer_format_by_hand_is_handled_as_told(sites: Sites) -> None:
    site, running = at_work(sites)
    forge(site, {"op": "remove", "path": "/status"})
    site.grows(STEPS[1])
    site.until(lambda: state(site).get("epoch") == 0 and site.condition("AbleToScale")[0] == "True", "all is told anew")

    forge(site, {"op": "replace", "path": "/status/state/format", "value": 99})
    before = site.wanted()
    site.offer(STEPS[2])
    site.until_able("Conflict")
    told = site.condition("AbleToScale")[2]
    assert "status.state has format 99, this release knows up to 1: a newer one wrote it" in told
    assert (site.wanted(), state(site)["format"]) == (before, 99)
    cure(site, told)
    site.until(lambda: site.wanted() > before, "it goes on once the state is removed")
    assert running.metric("pd_autoscaler_internal_errors_total") == 0


def test_a_forged_epoch_stops_its_fleet_alone_tells_the_cure_and_the_cure_works(sites: Sites) -> None:
    well, sick = sites.site(), sites.site()
    for one in (well, sick):
        one.create()
    running = sites.running(well.namespace, sick.namespace)
    sick.grows(STEPS[0])
    forge(sick, {"op": "replace", "path": "/status/state/epoch", "value": 1_000_000})
    before = sick.wanted()
    sick.offer(STEPS[1])
    sick.until(lambda: "WriteConflict" in dict(sick.events()), "an Event tells")
    note = dict(sick.events())["WriteConflict"]
    assert "a later leader (term 1000000) has taken over" in note
    assert sick.wanted() == before
    well.grows(STEPS[0])
    cure(sick, note)
    sick.until(lambda: sick.wanted() > before, "it goes on")
    assert running.metric("pd_autoscaler_internal_errors_total") == 0


def test_every_change_of_mode_is_obeyed_at_the_next_look(sites: Sites) -> None:
    site, _ = at_work(sites)
    before = site.wanted()
    site.edit(mode="Recommend")
    site.until(lambda: site.status()["mode"] == "Recommend", "the mode is seen")
    site.offer(STEPS[1])
    site.until(lambda: site.status()["pools"]["prefill"].get("recommended", 0) > before, "more is recommended")
    assert site.wanted() == before
    site.edit(mode="Auto")
    site.until(lambda: site.wanted() > before, "in mode Auto it is done")
    site.edit(mode="Off")
    site.until(lambda: site.status()["mode"] == "Off", "the mode is seen")
    stands = site.wanted()
    site.offer(STEPS[2])
    time.sleep(3.0)  # three ticks
    assert site.wanted() == stands


def test_a_target_that_is_deleted_swapped_or_scaled_by_a_human_is_worked_by_as_it_stands(sites: Sites) -> None:
    site, _ = at_work(sites)
    grown = site.wanted()
    site.kubectl("delete", "lws/engines", "--wait=true")
    site.until_able("FleetUnreadable")
    assert "engines: NotFound: there is no such object; create it" in site.condition("AbleToScale")[2]
    site.place.leader_worker_set("engines", 1)
    site.offer(STEPS[0])
    site.until(lambda: site.wanted() == grown, "the new one grows as the old one did")

    site.kubectl("scale", "lws/engines", "--replicas=2")
    site.until(lambda: site.wanted() == grown, "less than is needed is put right")
    site.kubectl("scale", "lws/engines", f"--replicas={grown + 3}")
    site.until(lambda: site.status()["pools"]["prefill"]["desired"] == grown + 3, "what a human added is seen")
    assert site.wanted() == grown + 3, "and not taken away before a window of looking"

    site.place.leader_worker_set("others", 1)
    pools = json.loads(site.kubectl("get", "pda/chat", "-o", "json"))["spec"]["pools"]
    site.edit(pools={"prefill": {"target": pools["prefill"]["target"] | {"name": "others"}}})
    site.until(lambda: site.wanted(name="others") > 1, "the new target is scaled")
    assert site.wanted() == grown + 3, "the old one is left as it is"


def test_two_hundred_policies_that_came_and_went_leave_nothing_behind(sites: Sites) -> None:
    site, running = at_work(sites)
    sizes: list[tuple[int, int, float]] = []
    for _ in range(2):
        site.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": crowd(site)}))
        wait_for(lambda: running.metric("pd_autoscaler_fleets") == 1 + CROWD, "all are managed")
        site.kubectl("delete", "pda", "-l", "crowd=yes", "--wait=false")
        wait_for(lambda: running.metric("pd_autoscaler_fleets") == 1, "all are gone")
        sizes.append((running.threads(), running.series(), running.metric("process_resident_memory_bytes") / 2**20))
    log.info("threads, series and MiB after each %d came and went: %s", CROWD, sizes)
    (_, first_series, rss_mib), (threads, last_series, last_rss_mib) = sizes
    assert last_series == first_series
    assert threads < WORKERS + 40, "hands for errands, up to a bound; beside them those of the lists, the pages, the scribe"
    assert last_rss_mib <= rss_mib + 10
    site.grows(STEPS[1])


def crowd(site: Site) -> list[dict[str, Any]]:
    """Policies without targets, as a namespace has them whose models are yet to come."""
    made = []
    for number in range(CROWD):
        document = policy(site.namespace, {"name": f"prefill-{number}"})
        document["metadata"] |= {"name": f"crowd-{number}", "labels": {"crowd": "yes"}}
        document["spec"] |= {"mode": "Auto", "model": f"model-{number}", "behaviour": {"tickSeconds": 1}}
        document["spec"]["pools"]["decode"]["target"] = {"name": f"decode-{number}"}
        made.append(document)
    return made
