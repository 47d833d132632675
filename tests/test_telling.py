"""Is a secret refused that cannot be one, and does the leader name an address that others can reach?"""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.adapters.kubernetes import Election
from autoscaler.commands.telling import announce, elsewhere, secret_of, states_of
from autoscaler.refusal import Refusal
from tests.adapters.kubernetes.test_lease import LeaseStore


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "--state-secret-file nowhere: cannot be read: no such file or directory"),
        (b"", "must hold one word of printable ASCII"),
        (b" \n", "must hold one word of printable ASCII"),
        (b"two words", "must hold one word of printable ASCII"),
        (b"two\nlines", "must hold one word of printable ASCII"),
        ("geheimnisvoll-ä".encode(), "must hold one word of printable ASCII"),
    ],
)
def test_what_is_no_secret_is_refused(content: bytes | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("nowhere").write_bytes(content)
    with pytest.raises(Refusal) as caught:
        secret_of(Path("nowhere"))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_secret_is_read_without_the_end_of_its_line(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"open-sesame\n")
    assert (secret_of(file), secret_of(None)) == (b"open-sesame", b"")


@pytest.mark.parametrize(
    ("pod_ip", "url", "said"),
    [
        ("10.0.0.7", "http://0.0.0.0:8081/", "http://10.0.0.7:8081"),
        ("fd00::7", "http://[::]:8081/", "http://[fd00::7]:8081"),
        ("", "http://192.0.2.5:8081/", "http://192.0.2.5:8081"),
        ("no address", "http://192.0.2.5:8081/", "http://192.0.2.5:8081"),
        ("", "http://0.0.0.0:8081/", None),
    ],
)
def test_the_leader_names_an_address_that_others_can_reach(
    pod_ip: str, url: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POD_IP", pod_ip)
    store = LeaseStore()
    leader, other = (Election(store, "ops", "autoscaler", name) for name in ("one", "other"))
    announce(leader, url)
    leader.step()
    other.step()
    assert other.said("states") == (said or "")


def test_who_needs_no_lease_always_leads_and_asks_nobody() -> None:
    announce(None, "http://192.0.2.5:8081/")
    assert states_of(None, b"").leading
    assert elsewhere(None)._leader() == ""


def test_who_has_no_lease_yet_does_not_lead() -> None:
    election = Election(LeaseStore(), "ops", "autoscaler", "one")
    assert not states_of(election, b"").leading
    election.step()
    assert states_of(election, b"").leading
