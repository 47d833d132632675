"""Who gets through the companion's TLS, and does it change its certificate without losing a request? Real sockets."""

from __future__ import annotations

import operator
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from autoscaler.companion.app import create_app
from autoscaler.companion.callers import Callers
from autoscaler.companion.certificates import Issued, Pair
from autoscaler.companion.front_proxy import Trusted
from autoscaler.companion.issuing import PairFiles
from autoscaler.companion.tls import Door
from autoscaler.companion.upkeep import Upkeep
from autoscaler.refusal import Refusal
from tests.companion.policies import NOW, policy
from tests.companion.proxies import Client, Signer, listening, made

URL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/pdautoscaler_desired_replicas"
WANTED = f"{URL}?labelSelector=policy%3Dchat,role%3Ddecode"
DISCOVERY = "/apis/external.metrics.k8s.io/v1beta1"
HPA = {"X_Remote_User": "system:serviceaccount:kube-system:horizontal-pod-autoscaler"}


def config_map(*signers: Signer, names: str = '["front-proxy-client"]') -> dict[str, str]:
    """As an API server keeps it."""
    return {
        "requestheader-client-ca-file": "".join(one.pem for one in signers),
        "requestheader-allowed-names": names,
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }


@dataclass
class Stage:
    """A companion that listens, and what it believes."""

    served: Issued
    signer: Signer
    folder: Path
    data: dict[str, str] | Refusal | None = None
    door: Door = field(init=False)
    trusted: Trusted = field(init=False)
    port: int = 0
    clients: list[Client] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data = config_map(self.signer)
        self.door = Door(self.served.pair, time.time())
        self.trusted = Trusted(lambda: self.data, self.door.believe)
        self.trusted.learn()

    def client(self, shows: Path | None = None, trusts: bytes = b"") -> Client:
        self.clients.append(Client(self.port, trusts or self.served.authority, shows))
        return self.clients[-1]

    def again(self) -> None:
        """As it was at first."""
        for client in self.clients:
            client.close()
        self.data = config_map(self.signer)
        self.trusted.learn()
        self.door.show(self.served.pair, time.time())

    def front_proxy(self, signer: Signer | None = None) -> Client:
        return self.client((signer or self.signer).signs(self.folder, "front-proxy-client"))


@pytest.fixture(scope="module")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    found = Stage(made(), Signer.of("front-proxy-ca"), tmp_path_factory.mktemp("clients"))
    app = create_app(lambda: [policy()], Callers(lambda: found.trusted.current), lambda: NOW)
    with listening(app, found.door.context) as (found.port, _):
        yield found


@pytest.fixture
def stage(one_stage: Stage) -> Iterator[Stage]:
    yield one_stage
    one_stage.again()


def refused(client: Client) -> bool:
    """By TLS itself: TLS 1.3 tells it only when something is read."""
    try:
        client.get(DISCOVERY)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def test_the_right_authority_and_name_is_answered(stage: Stage) -> None:
    status, body = stage.front_proxy().get(WANTED, **HPA)
    assert (status, body["items"][0]["value"]) == (200, "7")


def test_the_right_authority_with_another_name_is_nobody(stage: Stage) -> None:
    client = stage.client(stage.signer.signs(stage.folder, "kubelet"))
    assert client.get(WANTED, **HPA)[0] == 401
    assert client.get(DISCOVERY)[0] == 200


def test_another_authority_of_the_same_name_is_refused_by_tls(stage: Stage) -> None:
    impostor = Signer.of("front-proxy-ca").signs(stage.folder, "front-proxy-client")
    assert refused(stage.client(impostor))


def test_without_a_certificate_only_discovery_is_answered(stage: Stage) -> None:
    client = stage.client()
    assert client.get(WANTED, **HPA)[0] == 401
    assert client.get(DISCOVERY)[0] == 200


def test_tls_1_1_is_not_spoken(stage: Stage) -> None:
    assert stage.door.context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_not_resumed_so_nobody_goes_unverified(stage: Stage, version: ssl.TLSVersion) -> None:
    client = stage.front_proxy()
    client.context.maximum_version = version
    assert client.get(WANTED, **HPA)[0] == 200
    assert isinstance(client._connection.sock, ssl.SSLSocket)
    session = client._connection.sock.session
    client.close()
    stage.data = config_map(Signer.of("another-ca"))
    stage.trusted.learn()
    again = client.context.wrap_socket(_dial(stage.port), server_hostname="127.0.0.1", do_handshake_on_connect=False)
    if session is not None:
        again.session = session
    with again:
        assert _first_bytes(again) == b""
        assert not again.session_reused


def _first_bytes(connection: ssl.SSLSocket) -> bytes:
    """What is answered; nothing to one who is refused, in TLS 1.3 only after the handshake."""
    try:
        connection.do_handshake()
        connection.sendall(b"GET /apis HTTP/1.1\r\nhost: x\r\n\r\n")
        return connection.recv(1)
    except (ssl.SSLError, ConnectionError):
        return b""


def _dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_an_authority_that_is_gone_is_refused_and_its_connections_end_after_their_answer(stage: Stage) -> None:
    old, new = stage.front_proxy(), Signer.of("front-proxy-ca-2")
    assert old.get(WANTED, **HPA)[0] == 200
    stage.data = config_map(stage.signer, new)
    assert not stage.trusted.learn()  # both are trusted: nobody has to go
    assert old.get(WANTED, **HPA)[0] == stage.front_proxy(new).get(WANTED, **HPA)[0] == 200
    stage.data = config_map(new)
    assert stage.trusted.learn()
    assert refused(stage.front_proxy())
    assert stage.front_proxy(new).get(WANTED, **HPA)[0] == 200


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "requestheader-client-ca-file is not there"),
        ({"requestheader-client-ca-file": "-----BEGIN CERTIFICATE-----"}, "no certificate in PEM"),
        ({"requestheader-allowed-names": "front-proxy-client"}, "requestheader-allowed-names"),
    ],
)
def test_a_config_map_that_cannot_be_read_trusts_nobody(stage: Stage, data: dict[str, str] | None, told: str) -> None:
    client = stage.front_proxy()
    assert client.get(WANTED, **HPA)[0] == 200
    stage.data = None if data is None else config_map(stage.signer) | data
    stage.trusted.learn()
    assert stage.trusted.current is None
    assert told in stage.trusted.trouble
    assert client.get(WANTED, **HPA)[0] == 401


def test_a_silent_api_server_changes_nothing_but_is_told(stage: Stage) -> None:
    stage.data = Refusal("Silent")
    stage.trusted.learn()
    assert stage.front_proxy().get(WANTED, **HPA)[0] == 200
    assert "Silent" in stage.trusted.trouble
    never = Trusted(lambda: Refusal("Forbidden"), stage.door.believe)
    never.learn()
    assert (never.current, never.trouble.endswith("Forbidden: no caller is believed")) == (None, True)


def test_certificates_change_under_load_without_a_failed_request(stage: Stage) -> None:
    """Four clients, half of them with a new connection each time, and eight changes between two authorities."""
    other = made()
    both = stage.served.authority + other.authority
    failures, serials, stop = list[BaseException](), set[int](), threading.Event()
    done = [0, 0, 0, 0]

    def ask(mine: int) -> None:
        client = stage.client(trusts=both)
        while not stop.is_set():
            try:
                assert client.get(DISCOVERY)[0] == 200
                serials.add(client.serial())
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is a failed request
                failures.append(error)
            done[mine] += 1
            if mine % 2:
                client.close()

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(8):
        shown = (other, stage.served)[turn % 2].pair
        stage.door.show(shown, time.time())
        before = list(done)
        while any(map(operator.eq, before, done)) and not failures:
            time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(serials) == 2
    assert min(done) >= 8


def test_a_half_written_certificate_is_told_and_the_one_before_is_served(stage: Stage, tmp_path: Path) -> None:
    crt, key, other = tmp_path / "tls.crt", tmp_path / "tls.key", made()
    crt.write_bytes(stage.served.pair.certificate)
    key.write_bytes(stage.served.pair.key)
    now = [time.time()]
    upkeep = Upkeep(stage.door, stage.served.pair, PairFiles(crt, key), stage.trusted, lambda: None, lambda: now[0])

    def serial_after(certificate: bytes, key_: bytes) -> int:
        crt.write_bytes(certificate)
        key.write_bytes(key_)
        now[0] += 1.0
        upkeep.step()
        client = stage.client(trusts=stage.served.authority + other.authority)
        client.get(DISCOVERY)
        found = client.serial()
        client.close()
        return found

    old, new = (x509.load_pem_x509_certificate(one.pair.certificate).serial_number for one in (stage.served, other))
    half = other.pair.certificate[:200]
    assert serial_after(half, stage.served.pair.key) == old
    assert upkeep.certificate_trouble == "this is no certificate in PEM; the one before is served"
    assert serial_after(other.pair.certificate, stage.served.pair.key) == old
    assert upkeep.certificate_trouble == "the key is another certificate's; the one before is served"
    assert serial_after(other.pair.certificate, b"") == old
    crt.unlink()
    now[0] += 1.0
    upkeep.step()
    assert upkeep.certificate_trouble.endswith("No such file or directory")
    assert serial_after(other.pair.certificate, other.pair.key) == new
    assert upkeep.certificate_trouble == ""


@pytest.mark.parametrize(("age_s", "told"), [(2 * 86_400.0, "valid from"), (-3600.0, "valid from")])
def test_a_certificate_outside_its_time_is_not_served(age_s: float, told: str) -> None:
    late = made(86_400.0, time.time() - age_s)
    with pytest.raises(ValueError, match=told):
        Door(late.pair, time.time())


def test_a_key_with_a_password_is_refused_without_asking_for_it() -> None:
    pair = made().pair
    key = load_pem_private_key(pair.key, None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(ValueError, match="without a password"):
        Door(Pair(pair.certificate, locked), time.time())
