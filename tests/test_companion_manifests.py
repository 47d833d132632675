"""Do the manifests of the companion agree with `autoscaler serve`, with each other, and with what others are told of them?

Whether an API server takes them, and what it does with them, is tests/e2e/plane/test_companion_manifests.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import autoscaler
from autoscaler.adapters.kubernetes.registrations import APPLICATION, OURS
from autoscaler.cli import cli
from autoscaler.commands.hpa import KEDA_URL, Ground, manifests
from autoscaler.commands.serve import API_SERVICE, CONTROLLER, MUTATING, VALIDATING
from autoscaler.companion.admission.demand import AMOUNTS, ASKED, FLEET
from autoscaler.companion.admission.routes import PREFIX as DOORS
from autoscaler.companion.admission.strictness import EARLY_REJECT, EMERGENCY, GUARD
from autoscaler.companion.callers import CONFIG_MAP
from autoscaler.companion.told import AHEAD_S, LATE_TICKS, WRITTEN_S
from autoscaler.policy_file import load_policies
from tests.test_manifests import FOLDER, Body, controller, of_kind, read

NAME, NAMESPACE = "pd-autoscaler-companion", "pd-autoscaler"
COMPANION = "components/companion"
WEBHOOKS = ("admission", "scale-guard", "load-guard", "pod-injection")
POLICY = "components/load-policy"
COMPONENTS = ("companion", "external-metrics", *WEBHOOKS, "load-policy", "direct-callers", "cert-manager")
READING = ("get", "list", "watch")


def part(name: str, folder: str = COMPANION) -> Body:
    """The one object in a file."""
    (found,) = read(folder, name)
    return found


def pod() -> Body:
    return dict(part("deployment.yaml")["spec"]["template"]["spec"])


def companion() -> Body:
    (container,) = pod()["containers"]
    return dict(container)


def settings(container: Body) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def text(component: str, name: str = "kustomization.yaml") -> str:
    return (FOLDER / "components" / component / name).read_text(encoding="utf-8")


def registered() -> dict[str, Body]:
    """The configurations of webhooks, by name."""
    found = [part("webhook.yaml", f"components/{one}") for one in WEBHOOKS]
    return {one["metadata"]["name"]: one for one in found}


def webhook(component: str) -> Body:
    (found,) = part("webhook.yaml", f"components/{component}")["webhooks"]
    return dict(found)


def granted() -> Iterator[tuple[str, Body]]:
    for one in read(COMPANION, "role.yaml"):
        yield from ((one["kind"], rule) for rule in one.get("rules", ()))


def variables() -> dict[str, str]:
    return {one["name"]: one["expression"] for one in part("policy.yaml", POLICY)["spec"]["variables"]}


def test_every_setting_is_an_option_of_the_command_that_is_run() -> None:
    (command,) = companion()["args"]
    options = {f"PDA_{command}_{option.name}".upper() for option in cli.commands[command].params}
    told = set(settings(companion()))
    assert told == {"PDA_SERVE_LISTEN", "PDA_SERVE_KEDA_LISTEN"}
    texts = [text(one) for one in COMPONENTS] + [text("cert-manager", "deployment.yaml")]
    told |= {name for one in texts for name in re.findall(r"PDA_\w+", one)}
    told |= set(re.findall(r"PDA_\w+", (FOLDER / "examples/companion-other-namespaces/kustomization.yaml").read_text()))
    assert {"PDA_SERVE_CERT", "PDA_SERVE_NAMESPACES", "PDA_SERVE_DIRECT_CALLERS", "PDA_SERVE_GUARD"} <= told <= options


def test_the_names_are_those_that_the_program_looks_for() -> None:
    defaults = {option.name: option.default for option in cli.commands["serve"].params}
    assert defaults["service"] == part("service.yaml")["metadata"]["name"] == part("secret.yaml")["metadata"]["name"] == NAME
    validating = {name for name, one in registered().items() if one["kind"] == "ValidatingWebhookConfiguration"}
    assert (validating, set(registered()) - validating) == (set(VALIDATING), set(MUTATING))
    assert part("apiservice.yaml", "components/external-metrics")["metadata"]["name"] == API_SERVICE
    assert part("serviceaccount.yaml", "base")["metadata"]["name"] == CONTROLLER
    (not_ours, _) = webhook("scale-guard")["matchConditions"]
    assert f"'system:serviceaccount:{NAMESPACE}:{CONTROLLER}'" in not_ours["expression"]


def test_what_is_registered_carries_the_label_by_which_it_is_ours() -> None:
    api_service = part("apiservice.yaml", "components/external-metrics")
    others = [*read(POLICY, "policy.yaml"), *read(POLICY, "bindings.yaml"), *read("components/direct-callers", "role.yaml")]
    roles = [one for one in read(COMPANION, "role.yaml") if one["kind"].startswith("Cluster")]
    for one in (api_service, *registered().values(), *others, *roles):
        assert one["metadata"]["labels"] == {APPLICATION: OURS}, one["metadata"]["name"]


def test_the_service_reaches_the_ports_that_are_listened_at() -> None:
    ports = {port["name"]: port["containerPort"] for port in companion()["ports"]}
    told = settings(companion())
    assert told["PDA_SERVE_LISTEN"] == f"0.0.0.0:{ports['https']}"
    assert told["PDA_SERVE_KEDA_LISTEN"] == f"0.0.0.0:{ports['keda']}"
    service = {port["targetPort"]: port["port"] for port in part("service.yaml")["spec"]["ports"]}
    assert f"http://{NAME}.{NAMESPACE}:{service['keda']}" == KEDA_URL
    asked = [part("apiservice.yaml", "components/external-metrics")["spec"]["service"]]
    asked += [one["clientConfig"]["service"] for made in registered().values() for one in made["webhooks"]]
    assert {(one["name"], one["namespace"], one["port"]) for one in asked} == {(NAME, NAMESPACE, service["https"])}
    ingress = [rule["ports"][0]["port"] for rule in part("networkpolicy.yaml")["spec"]["ingress"]]
    assert ingress == list(ports) == list(service)


def test_its_pods_are_meant_by_every_selector() -> None:
    template = part("deployment.yaml")["spec"]["template"]
    apart = template["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    selectors = [
        part("deployment.yaml")["spec"]["selector"],
        part("poddisruptionbudget.yaml")["spec"]["selector"],
        part("networkpolicy.yaml")["spec"]["podSelector"],
        {"matchLabels": part("service.yaml")["spec"]["selector"]},
        *(one["podAffinityTerm"]["labelSelector"] for one in apart),
    ]
    assert len(selectors) == 6
    assert all(selector == {"matchLabels": template["metadata"]["labels"]} for selector in selectors)
    (base,) = read("base", "deployment.yaml")
    assert base["spec"]["selector"]["matchLabels"] != template["metadata"]["labels"]


def test_two_pods_answer_and_may_do_nothing_to_the_machine() -> None:
    assert part("deployment.yaml")["spec"]["replicas"] >= 2
    assert part("poddisruptionbudget.yaml")["spec"]["minAvailable"] == 1
    assert companion()["securityContext"] == controller()["securityContext"]
    assert companion()["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod()["securityContext"]["runAsNonRoot"] is True
    probes = [companion()[f"{one}Probe"]["httpGet"] for one in ("liveness", "readiness", "startup")]
    assert [(one["port"], one["scheme"]) for one in probes] == [("https", "HTTPS")] * 3
    (made,) = read(COMPANION, "kustomization.yaml")
    assert made["images"] == [{"name": companion()["image"], "newTag": autoscaler.__version__}]


def test_what_is_written_is_named_one_by_one_and_nothing_is_made_or_deleted() -> None:
    written: dict[str, list[str]] = {}
    for kind, rule in granted():
        assert "*" not in (*rule["resources"], *rule["verbs"], *rule["apiGroups"])
        assert set(rule["verbs"]) <= {*READING, "update", "patch"}
        if not set(rule["verbs"]) <= set(READING):
            written |= dict.fromkeys(rule["resources"], rule["resourceNames"])
        elif kind == "ClusterRole":
            assert rule["resourceNames"] == [CONFIG_MAP]
    assert written == {
        "secrets": [NAME],
        "apiservices": [API_SERVICE],
        "validatingwebhookconfigurations": list(VALIDATING),
        "mutatingwebhookconfigurations": list(MUTATING),
    }


def test_callers_are_reviewed_only_where_they_are_let_in() -> None:
    asked = {resource for _, rule in granted() for resource in rule["resources"]}
    assert not {"tokenreviews", "subjectaccessreviews"} & asked
    role, binding = read("components/direct-callers", "role.yaml")
    assert {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]} == {
        "tokenreviews": ["create"],
        "subjectaccessreviews": ["create"],
    }
    for one in (binding, *of_kind(read(COMPANION, "role.yaml"), "ClusterRoleBinding")):
        assert one["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]


def test_nothing_ever_waits_long_for_a_webhook_and_a_dry_run_is_like_any_other() -> None:
    for one in (webhook(name) for name in WEBHOOKS):
        assert (one["failurePolicy"], one["timeoutSeconds"], one["sideEffects"]) == ("Ignore", 2, "None")
        assert one["admissionReviewVersions"] == ["v1"]
        outside = one["namespaceSelector"]["matchExpressions"][0]
        assert (outside["key"], outside["operator"], outside["values"][0]) == (
            "kubernetes.io/metadata.name",
            "NotIn",
            "kube-system",
        )
        assert one["clientConfig"]["service"]["path"].startswith(f"{DOORS}/")


@pytest.mark.parametrize("name", WEBHOOKS[1:])
def test_a_webhook_on_the_objects_of_others_needs_a_label_and_leaves_our_own_namespace_alone(name: str) -> None:
    selector = webhook(name)["namespaceSelector"]
    assert selector["matchLabels"] == {"pdautoscaler.io/admission": "enabled"}
    assert NAMESPACE in selector["matchExpressions"][0]["values"]
    assert "pdautoscaler.io/admission=enabled" in text(name)


def test_every_webhook_asks_at_its_own_door() -> None:
    doors = {
        made["metadata"]["name"]: one["clientConfig"]["service"]["path"]
        for made in registered().values()
        for one in made["webhooks"]
    }
    assert doors == {f"pd-autoscaler-{name}": f"{DOORS}/{name}" for name in ("policies", "scale", "load", "pods")}


def test_words_in_comments_are_those_of_the_program() -> None:
    assert f"{GUARD}: deny" in text("scale-guard")
    assert EMERGENCY in text("scale-guard")
    assert f"{EARLY_REJECT}: deny" in text("load-guard")
    assert f"{EARLY_REJECT}=deny" in text("load-policy")


def test_the_policy_without_a_webhook_reads_the_annotations_that_the_webhook_reads() -> None:
    told = " ".join(variables().values())
    for name in (FLEET, *AMOUNTS.values()):
        assert f"'{name}'" in told
    condition = part("policy.yaml", POLICY)["spec"]["matchConditions"][2]["expression"]
    assert set(re.findall(r"'(\w+)'", condition)) == set(ASKED)


def test_the_policy_without_a_webhook_believes_a_status_as_long_as_the_companion_does() -> None:
    fresh = variables()["fresh"]
    assert f"{WRITTEN_S} + {LATE_TICKS:.1f} * double" in fresh
    assert f"duration('-{AHEAD_S:.0f}s')" in fresh


def test_a_fleet_warns_or_refuses_and_never_both() -> None:
    warn, deny = read(POLICY, "bindings.yaml")
    assert (warn["spec"]["validationActions"], deny["spec"]["validationActions"]) == (["Warn", "Audit"], ["Deny", "Audit"])
    ((key, value),) = deny["spec"]["paramRef"]["selector"]["matchLabels"].items()
    (others,) = warn["spec"]["paramRef"]["selector"]["matchExpressions"]
    assert (others["key"], others["operator"]) == (key, "NotIn")
    assert value in others["values"]
    for one in (warn, deny):
        assert one["spec"]["policyName"] == part("policy.yaml", POLICY)["metadata"]["name"]
        assert one["spec"]["paramRef"]["parameterNotFoundAction"] == "Allow"


def test_the_autoscalers_of_the_example_are_those_that_we_print() -> None:
    (loaded,) = load_policies([FOLDER.parent / "policies" / "hpa.yaml"])
    assert read("examples", "companion", "hpa.yaml") == manifests(loaded.document, Ground())
    found: list[dict[str, Any]] = [dict(one) for one in read("examples", "companion", "keda.yaml")]
    fallbacks = [one["spec"]["fallback"] for one in found]
    assert [one["behavior"] for one in fallbacks] == ["currentReplicas"] * 2
    bare = [one | {"spec": {name: value for name, value in one["spec"].items() if name != "fallback"}} for one in found]
    assert bare == manifests(loaded.document, Ground(keda=True))


def test_the_registrations_go_before_the_companion() -> None:
    commands = re.findall(r"^#   kubectl (.*delete .*)$", text("companion"), re.MULTILINE)
    deletes = [next(word for word in command.split() if "," in word).split(",") for command in commands]
    assert deletes[0] == ["apiservice", "validatingwebhookconfiguration", "mutatingwebhookconfiguration"]
    gone = [kind for kinds in deletes for kind in kinds]
    made = [
        one for name in COMPONENTS for path in sorted((FOLDER / "components" / name).glob("*.yaml")) for one in _objects(path)
    ]
    assert len(made) > 15
    assert {one["kind"].lower() for one in made} <= set(gone)
    assert gone.index("deployment") > gone.index("apiservice")
    for component in ("external-metrics", *WEBHOOKS):
        assert "before the companion" in text(component) or "this APIService first" in text(component)


def _objects(path: Any) -> list[Body]:
    found = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
    patches = path.parent.name == "cert-manager"
    return [] if patches else [one for one in found if one["kind"] != "Component"]
