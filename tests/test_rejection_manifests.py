"""Do the manifests of early rejection agree with the program, the controller, and the gateways that ask?

Whether an API server takes them is tests/e2e/plane/test_manifests.py; real gateways with these files are in tests/sidecar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from starlette.routing import Route

from autoscaler.cli import cli
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.counts import Rows
from autoscaler.sidecar.headers import ALWAYS, SIZE
from autoscaler.sidecar.ledger import Ledger
from autoscaler.sidecar.pages import create_app
from autoscaler.sidecar.skins import SKINS
from tests.test_manifests import FOLDER, Body, controller, of_kind, read

COMPONENT = "components/early-rejection"
SIDECAR = f"{COMPONENT}/sidecar"
SECRET_FOLDER = "/etc/pd-autoscaler/state"
READ = {name.decode() for name in ALWAYS}
PATHS = {skin.name: skin.path for skin in SKINS}


def part(name: str, folder: str = SIDECAR) -> Body:
    """The one object in a file of the component."""
    (found,) = read(folder, name)
    return found


def gateway(name: str) -> list[Body]:
    return read("examples", "gateways", name)


def pod() -> Body:
    return dict(part("deployment.yaml")["spec"]["template"]["spec"])


def sidecar() -> Body:
    (container,) = pod()["containers"]
    return dict(container)


def settings(container: Body) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def beside() -> Body:
    (deployment,) = gateway("beside-the-gateway.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["initContainers"]
    return dict(container)


def told(container: Body) -> dict[str, str]:
    """Its settings with each $(NAME) replaced, as a kubelet does it: by what stands above it."""
    found: dict[str, str] = {}
    for name, value in settings(container).items():
        found[name] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], value)
    return found


@pytest.mark.parametrize("container", [sidecar(), beside()], ids=["deployment", "beside-the-gateway"])
def test_every_setting_is_an_option_of_the_sidecar_and_its_state_is_a_page_of_the_controller(container: Body) -> None:
    (command,) = container["args"]
    options = {f"PDA_{command}_{option.name}".upper() for option in cli.commands[command].params}
    found = told(container)
    names = {name for name in found if name.startswith("PDA_")}
    assert names == {"PDA_SIDECAR_STATES", "PDA_SIDECAR_LISTEN", "PDA_SIDECAR_SECRET_FILE"}
    assert names <= options
    service = part("service.yaml", COMPONENT)
    (port,) = service["spec"]["ports"]
    place = f"http://{service['metadata']['name']}.pd-autoscaler.svc:{port['port']}"
    assert found["PDA_SIDECAR_STATES"] == f"{place}/v1/state/{found['FLEET']}"


def test_the_controller_is_told_of_the_same_secret_and_asked_where_it_listens() -> None:
    (patch,) = part("controller.yaml", COMPONENT)["spec"]["template"]["spec"]["containers"]
    assert patch["name"] == controller()["name"]
    options = {f"PDA_RUN_{option.name}".upper() for option in cli.commands["run"].params}
    assert set(settings(patch)) <= options
    for service, container in ((part("service.yaml", COMPONENT), controller()), (part("service.yaml"), sidecar())):
        (asked,) = service["spec"]["ports"]
        assert {port["name"]: port["containerPort"] for port in container["ports"]}[asked["targetPort"]] == asked["port"]
    assert told(sidecar())["PDA_SIDECAR_LISTEN"] == f"0.0.0.0:{sidecar()['ports'][0]['containerPort']}"


def mounts() -> Iterator[tuple[Body, Body]]:
    yield sidecar(), pod()
    inside = part("controller.yaml", COMPONENT)["spec"]["template"]["spec"]
    yield inside["containers"][0], inside
    yield beside(), gateway("beside-the-gateway.yaml")[0]["spec"]["template"]["spec"]


def test_everybody_reads_the_secret_where_it_is_mounted() -> None:
    for container, around in mounts():
        (mount,) = container["volumeMounts"]
        (volume,) = [one for one in around["volumes"] if one["name"] == mount["name"]]
        assert volume["secret"] == {"secretName": "pd-autoscaler-state"}, "and without it no pod starts"
        (path,) = [value for name, value in settings(container).items() if name.endswith("SECRET_FILE")]
        assert (mount["mountPath"], path) == (SECRET_FOLDER, f"{SECRET_FOLDER}/secret")


def test_no_manifest_makes_or_holds_what_is_secret() -> None:
    texts = [path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.yaml")]
    assert len(texts) > 20
    for text in texts:
        assert not re.search(r"secretGenerator|stringData", text)
        if re.search(r"^kind: Secret$", text, re.MULTILINE):  # the companion's, which lies there empty
            assert set(yaml.safe_load(text)) == {"apiVersion", "kind", "metadata"}


def test_probes_ask_for_pages_of_the_sidecar() -> None:
    app = create_app(Board(), Ledger(), Rows(1), lambda: "")
    pages = {route.path for route in app.routes if isinstance(route, Route)}
    asked = [sidecar()[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
    assert [(one["path"] in pages, one["port"]) for one in asked] == [(True, sidecar()["ports"][0]["name"])] * 2


def test_a_pod_of_a_sidecar_may_do_nothing_but_answer() -> None:
    assert pod()["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod()
    assert pod()["securityContext"]["runAsNonRoot"] is True
    for container in (sidecar(), beside()):
        assert container["securityContext"] == controller()["securityContext"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_its_pods_are_meant_by_every_selector_and_by_none_of_the_controller() -> None:
    template = part("deployment.yaml")["spec"]["template"]
    apart = template["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    own = {"matchLabels": {"app.kubernetes.io/name": "pd-early-rejection", "pdautoscaler.io/sidecars": "first"}}
    selectors = [
        part("deployment.yaml")["spec"]["selector"],
        part("poddisruptionbudget.yaml")["spec"]["selector"],
        part("networkpolicy.yaml")["spec"]["podSelector"],
        {"matchLabels": part("service.yaml")["spec"]["selector"]},
        *(one["podAffinityTerm"]["labelSelector"] for one in apart),
    ]
    assert all(selector == own for selector in selectors)
    assert template["metadata"]["labels"].items() >= own["matchLabels"].items()
    (base,) = read("base", "deployment.yaml")
    assert base["spec"]["selector"]["matchLabels"].items() - template["metadata"]["labels"].items()


def test_the_sidecars_of_a_second_fleet_have_selectors_of_their_own() -> None:
    (second,) = read("examples", "early-rejection", "second-fleet", "kustomization.yaml")
    (labels,) = second["labels"]
    assert labels["includeSelectors"] is True
    first = part("deployment.yaml")["spec"]["selector"]["matchLabels"]
    assert all(first[name] != value for name, value in labels["pairs"].items())


def test_the_controllers_policy_lets_in_who_carries_the_label_of_those_that_ask() -> None:
    (component,) = read(COMPONENT, "kustomization.yaml")
    (patch,) = [one["patch"] for one in component["patches"] if one.get("target", {}).get("kind") == "NetworkPolicy"]
    rule = next(one["value"] for one in yaml.safe_load(patch) if one["path"].startswith("/spec/ingress"))
    label = rule["from"][0]["podSelector"]["matchLabels"]
    (outside,) = gateway("beside-the-gateway.yaml")
    for template in (part("deployment.yaml")["spec"]["template"], outside["spec"]["template"]):
        assert template["metadata"]["labels"].items() >= label.items()


def envoy() -> Body:
    """The filter of the raw configuration."""
    (config,) = gateway("envoy.yaml")
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    (found,) = [one for one in chain["filters"][0]["typed_config"]["http_filters"] if "ext_authz" in one["name"]]
    return dict(found["typed_config"])


def envoy_gateway() -> Body:
    return dict(of_kind(gateway("envoy-gateway.yaml"), "SecurityPolicy")[0]["spec"]["extAuth"])


def istio() -> Body:
    (provider,) = gateway("istio-mesh.yaml")[0]["meshConfig"]["extensionProviders"]
    (policy,) = gateway("istio.yaml")
    assert policy["spec"]["provider"] == {"name": provider["name"]}
    return dict(provider["envoyExtAuthzHttp"])


def traefik() -> Body:
    return dict(gateway("traefik.yaml")[0]["spec"]["forwardAuth"])


def test_every_gateway_hands_on_what_the_sidecar_reads_and_no_length_that_a_client_made_up() -> None:
    names = {
        "envoy": [one["exact"] for one in envoy()["allowed_headers"]["patterns"]],
        "envoy-gateway": [name for name in envoy_gateway()["headersToExtAuth"] if name != SIZE.decode()],
        "istio": istio()["includeRequestHeadersInCheck"],
        "traefik": [name.lower() for name in traefik()["authRequestHeaders"]],
    }
    assert {name: set(found) for name, found in names.items()} == dict.fromkeys(names, READ)


def test_every_gateway_asks_the_service_in_its_own_way() -> None:
    place, prefix = "pd-early-rejection.pd-autoscaler.svc", PATHS["ext_authz"]
    (backend,) = envoy_gateway()["http"]["backendRefs"]
    assert (backend["name"], backend["namespace"], backend["port"]) == ("pd-early-rejection", "pd-autoscaler", 8090)
    assert envoy()["http_service"]["server_uri"]["uri"] == f"http://{place}:8090"
    assert (istio()["service"], istio()["port"]) == (f"{place}.cluster.local", 8090)
    assert traefik()["address"] == f"http://{place}:8090{PATHS['forward_auth']}"
    assert envoy()["http_service"]["path_prefix"] == envoy_gateway()["http"]["path"] == istio()["pathPrefix"] == prefix
    nginx = (Path(FOLDER) / "examples/gateways/nginx.conf").read_text(encoding="utf-8")
    assert f"server {place}:8090;" in nginx
    assert f"proxy_pass http://sidecar{PATHS['auth_request']}$request_uri;" in nginx


def test_every_gateway_that_can_lets_a_request_in_after_a_tenth_of_a_second_without_an_answer() -> None:
    assert (envoy()["failure_mode_allow"], envoy()["http_service"]["server_uri"]["timeout"]) == (True, "0.1s")
    assert (envoy_gateway()["failOpen"], envoy_gateway()["timeout"]) == (True, "100ms")
    assert (istio()["failOpen"], istio()["timeout"]) == (True, "0.1s")


def test_the_example_beside_a_gateway_uses_the_image_of_this_version() -> None:
    (made,) = read(SIDECAR, "kustomization.yaml")
    assert beside()["image"] == f"{sidecar()['image']}:{made['images'][0]['newTag']}"
    assert beside()["restartPolicy"] == "Always", "what makes an init container one that runs along"
