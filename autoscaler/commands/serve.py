"""How is the companion put together: what HPA, KEDA and API servers ask of us?

    PDAutoscalers (a watch) ----------------> external metrics, the webhook, KEDA's page
    ConfigMap of the front proxy (a watch) -> whose client certificates are believed
    files, or a Secret of our own ----------> the serving certificate, exchanged while requests are answered

A process of its own beside the controller, and several of them: what is asked here must be answered while the controller is
elected or restarted, and it writes nothing but the certificate that its replicas share.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from starlette.exceptions import HTTPException

from autoscaler.adapters.kubernetes.api import ApiFault, KubeApi, connect, home
from autoscaler.adapters.kubernetes.one_map import OneMap
from autoscaler.adapters.kubernetes.policies_told import Objects, PoliciesTold
from autoscaler.adapters.kubernetes.registrations import Registrations
from autoscaler.adapters.kubernetes.reviews import Reviews, User
from autoscaler.adapters.kubernetes.shared_secret import Content, SharedSecret
from autoscaler.adapters.telemetry import configure_logging
from autoscaler.apps.probes import address
from autoscaler.apps.server import listen as bind
from autoscaler.companion.admission.routes import add_admission
from autoscaler.companion.admission.strictness import AdmissionSettings, Strictness
from autoscaler.companion.app import create_app
from autoscaler.companion.callers import CONFIG_MAP, Access, Authority, Caller, Callers
from autoscaler.companion.certificates import Pair
from autoscaler.companion.failures import GROUP
from autoscaler.companion.front_proxy import NAMESPACE, Trusted
from autoscaler.companion.issuing import PairFiles, SharedPair, Source
from autoscaler.companion.keda import create_keda_app
from autoscaler.companion.pages import Pages
from autoscaler.companion.serving import Companion, server
from autoscaler.companion.tls import Door
from autoscaler.companion.upkeep import Upkeep
from autoscaler.refusal import Refusal

if TYPE_CHECKING:
    import socket

    from autoscaler.companion.serving import Server

API_SERVICE = f"v1beta1.{GROUP}"
VALIDATING = ("pd-autoscaler-policies", "pd-autoscaler-scale", "pd-autoscaler-load")
MUTATING = ("pd-autoscaler-pods",)
CONTROLLER = "pd-autoscaler"  # its service account
PLACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
FIRST_S = 30.0  # for the first certificate of our own: two writes, several replicas at once, and a slow API server
AGAIN_S = 1.0

log = logging.getLogger(__name__)


def serve(
    *,
    cluster: str,
    namespaces: Sequence[str],
    listen: str,
    keda_listen: str | None,
    keda_token_file: Path | None,
    cert: Path | None,
    key: Path | None,
    service: str,
    direct_callers: bool,
    guard: str,
    early_reject: str,
    allowed: Sequence[str],
) -> None:
    """Answer until SIGTERM or SIGINT. Raises Refusal on bad input, and where there is no certificate to begin with."""
    configure_logging()
    _check(namespaces, service, (("--cert", cert), ("--key", key), ("--keda-token-file", keda_token_file)))
    context = _context(cluster)
    with ExitStack() as closing:
        listeners = [closing.enter_context(bind(*address(one))) for one in (listen, keda_listen) if one is not None]
        api, own = connect(context), home(context)
        policies = PoliciesTold(api, tuple(dict.fromkeys(namespaces)) or (own,))
        closing.callback(policies.stop)
        proxy = OneMap(api, NAMESPACE, CONFIG_MAP)
        closing.callback(proxy.stop)
        source = PairFiles(cert, key) if cert and key else _own(api, own, service)
        admission = AdmissionSettings(
            own_users=frozenset({f"system:serviceaccount:{own}:{CONTROLLER}"}),
            allowed=frozenset(allowed),
            guard=Strictness(guard),
            early_reject=Strictness(early_reject),
        )
        authority = _ApiServer(Reviews(api)) if direct_callers else None
        _Office(policies, proxy, source, _Rules(admission, authority, keda_token_file)).run(closing, listeners)


@dataclass(frozen=True, slots=True)
class _Rules:
    """Who may ask what. `authority`: who knows direct callers; None: there are none."""

    admission: AdmissionSettings
    authority: Authority | None
    keda_token_file: Path | None


class _Office:
    """Everything that answers, in one process."""

    def __init__(self, policies: PoliciesTold, proxy: OneMap, source: Source, rules: _Rules) -> None:
        self._policies, self._source, self._rules, self._companion = policies, source, rules, Companion()
        first = _first(source, wait_s=0.0 if isinstance(source, PairFiles) else FIRST_S)
        try:
            self._door = Door(first, time.time())
        except ValueError as error:
            raise Refusal(f"no serving certificate: {error}") from error
        self._trusted = Trusted(lambda: _known(proxy.data()), self._door.believe)
        self._upkeep = Upkeep(self._door, first, source, self._trusted, self._companion.let_go, time.time)
        self._pages = Pages(self._troubles, self._remarks, lambda: self._door.facts.until_s)

    def run(self, closing: ExitStack, listeners: Sequence[socket.socket]) -> None:
        """Answer on these sockets, over TLS on the first one, until asked to end."""
        servers = [(one, listener) for one, listener in zip(self._servers(), listeners, strict=False)]
        self._upkeep.step()
        self._upkeep.start()
        closing.callback(self._upkeep.stop)
        gc.collect()
        gc.freeze()  # what is there by now stays: a collection of all of it takes 30 ms, of an answer's own 1

        def began() -> None:
            for scheme, (_, listener) in zip(("https", "http"), servers, strict=False):
                host, port = listener.getsockname()[:2]
                click.echo(f"companion: {scheme}://{f'[{host}]' if ':' in host else host}:{port}/", err=True)

        asyncio.run(self._companion.serve(servers, began))

    def _servers(self) -> tuple[Server, Server]:
        app = create_app(self._believed, Callers(lambda: self._trusted.current, self._rules.authority), time.time)
        add_admission(app, self._policies.objects, time.time, self._rules.admission)  # what is stale is allowed there, and told
        file = self._rules.keda_token_file
        token = None if file is None else lambda: file.read_text(encoding="utf-8").strip()
        keda = create_keda_app(self._believed, time.time, token)
        return server(self._dressed(app), self._door.context), server(self._dressed(keda))

    def _dressed(self, app: Any) -> Any:
        return self._companion.courteous(self._pages.before(app))

    def _believed(self) -> Objects:
        """The PDAutoscalers, or 503: a list that is not known, or too old, is no list without an object."""
        trouble = self._policies.trouble()
        if trouble:
            raise HTTPException(503, trouble)
        return self._policies.objects()

    def _troubles(self) -> Sequence[str]:
        unknown = "" if self._trusted.current else self._trusted.trouble
        leaving = "this process is about to end" if self._companion.leaving else ""
        return [one for one in (leaving, self._policies.trouble(), unknown) if one]

    def _remarks(self) -> Sequence[str]:
        untrusted = self._source.untrusted if isinstance(self._source, SharedPair) else ()
        return [one for one in (self._upkeep.certificate_trouble, self._trusted.trouble, *untrusted) if one]


@dataclass(frozen=True, slots=True)
class _ApiServer:
    """The authority of callers.py. A GET without a name is a `list` to the rules of a cluster."""

    reviews: Reviews

    def identify(self, token: str) -> Caller | None:
        user = self.reviews.whose(token)
        return None if user is None else Caller(user.name, user.groups, user.extra)

    def allows(self, caller: Caller, access: Access) -> bool:
        user = User(caller.user, caller.groups, caller.extra)
        return self.reviews.may(user, "list", GROUP, access.metric, access.namespace)


def _own(api: KubeApi, namespace: str, service: str) -> SharedPair[Content]:
    """A certificate of our own, in the Secret that has the Service's name."""
    secret = SharedSecret(api, namespace, service)
    registrations = Registrations(api, (API_SERVICE,), VALIDATING, MUTATING)

    def load() -> Content | Refusal:
        return _value(secret.read(), f"Secret {namespace}/{service}")

    def save(before: Content, entries: Mapping[str, bytes]) -> Content | Refusal:
        return _value(secret.write(before, entries), f"Secret {namespace}/{service}")

    name = f"{service}.{namespace}.svc"
    return SharedPair(load, save, registrations.trust, (name, f"{name}.cluster.local"))


def _value(found: Content | ApiFault, where: str) -> Content | Refusal:
    return Refusal(f"{where}: {found}") if isinstance(found, ApiFault) else found


def _known(data: Mapping[str, str] | ApiFault | None) -> Mapping[str, str] | Refusal | None:
    return Refusal(str(data)) if isinstance(data, ApiFault) else data


def _first(source: Source, wait_s: float, sleep: Callable[[float], None] = time.sleep) -> Pair:
    """The pair to begin with. Raises Refusal if there is none after `wait_s`."""
    ends_s = time.monotonic() + wait_s
    while isinstance(found := source.look(time.time()), Refusal):
        if time.monotonic() >= ends_s:
            raise Refusal(f"no serving certificate: {found}")
        sleep(AGAIN_S)
    return found


def _check(namespaces: Sequence[str], service: str, files: Sequence[tuple[str, Path | None]]) -> None:
    for option, name in [*(("--namespace", one) for one in namespaces), ("--service", service)]:
        if not PLACE.fullmatch(name):
            raise Refusal(f"{option} {name!r}: must be 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends")
    for option, file in files:
        if file is not None and not file.is_file():
            raise Refusal(f"{option} {file}: no such file")
    if len({file is None for option, file in files if option in ("--cert", "--key")}) > 1:
        raise Refusal("--cert and --key: one is not enough; without both, a certificate of our own is served")


def _context(cluster: str) -> str | None:
    kind, colon, context = cluster.partition(":")
    if kind != "kubernetes" or bool(colon) != bool(context):
        raise Refusal(f"--cluster {cluster!r}: must be kubernetes or kubernetes:CONTEXT")
    return context or None
