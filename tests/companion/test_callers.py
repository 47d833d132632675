"""Is the word of a front proxy taken, and nobody else's?

The matrix of peers: the right authority and name, the right authority and another name, none. A certificate of another
authority does not get as far as this: the TLS handshake refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from autoscaler.companion.app import create_app
from autoscaler.companion.callers import Access, Caller, Callers, FrontProxy, common_names, front_proxy
from autoscaler.companion.failures import Failure
from autoscaler.refusal import Refusal
from tests.companion.asking import CALLERS, HPA, PEER, PROXY, Headers, ask, certificate
from tests.companion.policies import NOW, policy

METRIC = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/pdautoscaler_desired_replicas"
ACCESS = Access("default", "pdautoscaler_desired_replicas")
AS_HPA = (("X-Remote-User", HPA),)
TOKEN = (("Authorization", "Bearer of-anna"),)


@dataclass(frozen=True)
class Registry:
    """An authority that knows one token, and lets these users in."""

    allowed: frozenset[str] = frozenset({"anna"})

    def identify(self, token: str) -> Caller | None:
        return Caller("anna") if token == "of-anna" else None

    def allows(self, caller: Caller, access: Access) -> bool:
        return access == ACCESS and caller.user in self.allowed


def status(callers: Callers, headers: Headers, peer: Mapping[str, Any] | None) -> int:
    return ask(create_app(lambda: [policy()], callers, lambda: NOW), METRIC, headers, peer).status


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        pytest.param(PEER, AS_HPA, 200, id="the front proxy, for HPA"),
        pytest.param(PEER, (), 401, id="the front proxy, for nobody"),
        pytest.param(PEER, (("X-Remote-User", ""),), 401, id="the front proxy, for an empty name"),
        pytest.param(PEER, (("X-Remote-Group", "system:masters"),), 401, id="the front proxy, for a group"),
        pytest.param(certificate("somebody"), AS_HPA, 401, id="another name"),
        pytest.param({"subject": ()}, AS_HPA, 401, id="no name"),
        pytest.param({}, AS_HPA, 401, id="a certificate that was not verified"),
        pytest.param(None, AS_HPA, 401, id="no certificate"),
        pytest.param(None, TOKEN, 401, id="a token"),
    ],
)
def test_headers_are_believed_from_a_verified_front_proxy_alone(
    peer: Mapping[str, Any] | None, headers: Headers, expected: int
) -> None:
    assert status(CALLERS, headers, peer) == expected


def test_who_is_not_answered_gets_a_status() -> None:
    answer = ask(create_app(lambda: [policy()], CALLERS, lambda: NOW), METRIC, AS_HPA, None)
    assert answer.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized: metrics are told to the API server's front proxy only, on behalf of a user it names",
        "reason": "Unauthorized",
        "code": 401,
    }


def test_no_allowed_name_means_any_name_of_the_authority_but_still_a_certificate() -> None:
    any_name = Callers(lambda: replace(PROXY, allowed_names=()))
    assert status(any_name, AS_HPA, certificate("somebody")) == 200
    assert status(any_name, AS_HPA, None) == 401


def test_nobody_is_believed_before_it_is_known_who_may_be() -> None:
    assert status(Callers(lambda: None), AS_HPA, PEER) == 401


def test_what_is_trusted_is_asked_for_at_every_request() -> None:
    trusted = [PROXY]
    callers = Callers(lambda: trusted[-1])
    assert status(callers, AS_HPA, PEER) == 200
    trusted.append(replace(PROXY, allowed_names=("another-client",)))
    assert status(callers, AS_HPA, PEER) == 401
    assert status(callers, AS_HPA, certificate("another-client")) == 200


def test_user_groups_and_extras_are_read_as_kubernetes_own_servers_read_them() -> None:
    trusted = FrontProxy(("front-proxy-client",), ("x-user", "x-remote-user"), ("x-group", "x-role"), ("x-extra-",))
    headers = [
        (b"x-remote-user", b"second"),
        (b"x-role", b"b"),
        (b"X-User", b""),
        (b"x-user", b"first"),
        (b"X-Group", b"a"),
        (b"x-group", b""),
        (b"x-group", b"c"),
        (b"X-Extra-Scopes%2fOf", b"one"),
        (b"x-extra-scopes%2Fof", b"two"),
        (b"x-extr", b"no"),
    ]
    expected = Caller("first", ("a", "c", "b"), {"scopes/of": ("one", "two")})
    assert Callers(lambda: trusted).admit(PEER, headers, ACCESS) == expected


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        pytest.param(None, TOKEN, 200, id="a direct caller who may"),
        pytest.param(None, (("Authorization", "bearer  of-anna "),), 200, id="the same, written in another way"),
        pytest.param(None, (("Authorization", "Bearer of-bert"),), 401, id="nobody's token"),
        pytest.param(None, (("Authorization", "Basic of-anna"),), 401, id="another scheme"),
        pytest.param(None, AS_HPA, 401, id="a name and no token"),
        pytest.param(None, (*AS_HPA, *TOKEN), 200, id="a token and a name that counts for nothing"),
        pytest.param(PEER, AS_HPA, 403, id="through the front proxy, and may not"),
        pytest.param(PEER, (("X-Remote-User", "anna"),), 200, id="through the front proxy, and may"),
    ],
)
def test_with_an_authority_everybody_is_asked_who_he_is_and_what_he_may(
    peer: Mapping[str, Any] | None, headers: Headers, expected: int
) -> None:
    assert status(Callers(lambda: PROXY, Registry()), headers, peer) == expected


def test_who_is_known_and_may_not_is_told_so_by_name() -> None:
    found = Callers(lambda: PROXY, Registry(frozenset())).admit(None, [(b"authorization", b"Bearer of-anna")], ACCESS)
    assert isinstance(found, Failure)
    assert (found.code, found.message) == (403, f"{ACCESS.metric} is forbidden: anna may not get it in namespace default")


def test_a_certificate_has_the_common_names_of_its_subject() -> None:
    twice = {"subject": ((("commonName", "a"), ("organizationName", "o")), (("commonName", "b"),)), "issuer": PEER["subject"]}
    assert (common_names(twice), common_names(None), common_names({})) == (("a", "b"), (), ())


MAP = {
    "client-ca-file": "-----BEGIN CERTIFICATE-----",
    "requestheader-allowed-names": '["front-proxy-client", " aggregator "]',
    "requestheader-client-ca-file": "-----BEGIN CERTIFICATE-----",
    "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    "requestheader-group-headers": '["X-Remote-Group"]',
    "requestheader-uid-headers": '["X-Remote-Uid"]',
    "requestheader-username-headers": '["X-Remote-User"]',
}


def test_the_config_map_tells_names_and_headers() -> None:
    read = front_proxy(MAP)
    assert read == replace(PROXY, allowed_names=("front-proxy-client", "aggregator"))


@pytest.mark.parametrize("nothing", ["", "null", "[]"])
def test_an_entry_without_names_is_an_empty_list_as_api_servers_mean_it(nothing: str) -> None:
    assert front_proxy(MAP | {"requestheader-allowed-names": nothing}).allowed_names == ()
    assert front_proxy({}) == FrontProxy((), (), (), ())


@pytest.mark.parametrize("broken", ["front-proxy-client", '"a"', "[1]", '{"a": 1}', '[""]', "[" * 100_000])
def test_a_list_that_cannot_be_read_trusts_nobody_by_a_guess(broken: str) -> None:
    with pytest.raises(Refusal, match=r"^requestheader-allowed-names: .{1,50} is not a JSON list of texts$"):
        front_proxy(MAP | {"requestheader-allowed-names": broken})
