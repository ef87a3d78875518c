"""What has the shop's servers in pods take a renewed certificate: who is asked, in which order, who is left alone.

PostgreSQL itself is told in tests/integration/shop/store/test_store_tls.py, and all of it in tests/e2e/test_tls.py.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster.errors import ClusterError, DeadlineError
from shardmart.cluster.host import certificates
from shardmart.errors import BadUseError, UnreachableError
from shardmart.platforms import shop_certificates
from tests.support.tls_listener import TlsListener, listening

SECRET = "shop-kafka-tls"
PODS = ["shop-kafka-1", "shop-kafka-2", "shop-kafka-3"]
NAMES = ["localhost", "127.0.0.1"]
AUTHORITY = certificates.make_authority("test")
OLD = certificates.make_server_certificate(AUTHORITY, NAMES, 9)
NEW = certificates.make_server_certificate(AUTHORITY, NAMES, 90)


class Kubernetes:
    """An API with one Secret and a StatefulSet of brokers; an evicted one comes back with what lies in the Secret."""

    def __init__(self, brokers: dict[str, TlsListener]) -> None:
        self.secret = {"ca.crt": AUTHORITY.certificate, "tls.crt": NEW.certificate, "tls.pem": NEW.combined}
        self.brokers = brokers
        self.uids = dict.fromkeys(brokers, "old")
        self.evicted: list[str] = []
        self.refusals: list[str] = []
        self.away = 0
        self.awaited = 0

    def call(self, method: str, path: str, body: Any = None, *, group: str = "") -> Any:
        kind, _, name = path.partition("/")
        if kind == "secrets":
            data = {key: base64.b64encode(value).decode() for key, value in self.secret.items()}
            return {"data": data} if name == SECRET else None
        if kind == "statefulsets":
            self.awaited += 1
            available = len(self.brokers) - self.away
            self.away = max(0, self.away - 1)
            status = {"availableReplicas": available, "updatedReplicas": len(self.brokers), "observedGeneration": 1}
            return {"metadata": {"generation": 1}, "spec": {"replicas": len(self.brokers)}, "status": status}
        pod = name.removesuffix("/eviction")
        if method == "GET":
            return {"metadata": {"uid": self.uids[pod]}}
        assert (method, path) == ("POST", f"pods/{pod}/eviction")
        assert self.away == 0, f"{pod} was evicted while another broker was away"
        if self.refusals:
            raise UnreachableError(self.refusals.pop())
        assert body["deleteOptions"]["preconditions"]["uid"] == self.uids[pod]
        self.evicted.append(pod)
        self.uids[pod] = "new"
        self.away = 1
        self.brokers[pod].certificate = NEW
        return {}


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    monkeypatch.setattr(shop_certificates, "FILE_POLL_SECONDS", 0.05)
    monkeypatch.setattr(shop_certificates, "POD_POLL_SECONDS", 0.05)
    with ExitStack() as stack:
        yield Kubernetes({pod: stack.enter_context(listening(tmp_path / pod, OLD)) for pod in PODS})


def brokers(kubernetes: Kubernetes) -> dict[str, str]:
    return {pod: listener.address for pod, listener in kubernetes.brokers.items()}


def restart(kubernetes: Kubernetes, folder: Path, seconds: float = 10) -> list[str]:
    certificate = shop_certificates.wanted(kubernetes, SECRET, folder)
    return shop_certificates.restart_brokers(kubernetes, "shop-kafka", brokers(kubernetes), certificate, seconds)


def test_brokers_are_restarted_one_after_the_other_each_while_all_are_there(
    kubernetes: Kubernetes, tmp_path: Path
) -> None:
    changes = restart(kubernetes, tmp_path)
    assert kubernetes.evicted == PODS
    assert kubernetes.away == 0, "the last one was awaited, too"
    mark = certificates.fingerprint(NEW.certificate)[:12]
    assert changes == [f"{at}: started again with certificate {mark}" for at in brokers(kubernetes).values()]


def test_a_second_run_restarts_nobody(kubernetes: Kubernetes, tmp_path: Path) -> None:
    restart(kubernetes, tmp_path)
    assert restart(kubernetes, tmp_path) == []
    assert kubernetes.evicted == PODS


def test_only_brokers_that_serve_another_certificate_are_restarted(kubernetes: Kubernetes, tmp_path: Path) -> None:
    kubernetes.brokers[PODS[0]].certificate = NEW
    kubernetes.brokers[PODS[2]].certificate = NEW
    restart(kubernetes, tmp_path)
    assert kubernetes.evicted == [PODS[1]], "what a run that was killed left over"


def test_one_that_serves_an_ended_certificate_is_restarted(kubernetes: Kubernetes, tmp_path: Path) -> None:
    for listener in kubernetes.brokers.values():
        listener.certificate = certificates.make_server_certificate(AUTHORITY, NAMES, 0)
    restart(kubernetes, tmp_path)
    assert kubernetes.evicted == PODS


def test_a_broker_that_does_not_answer_is_left_alone(kubernetes: Kubernetes, tmp_path: Path) -> None:
    kubernetes.brokers[PODS[0]].close()
    with pytest.raises(ClusterError, match=r"no TLS with 127\.0\.0\.1:\d+"):
        restart(kubernetes, tmp_path)
    assert kubernetes.evicted == []


def test_what_the_disruption_budget_refuses_is_asked_for_again(kubernetes: Kubernetes, tmp_path: Path) -> None:
    kubernetes.refusals = ["the Kubernetes API refused: it would violate the budget"] * 2
    restart(kubernetes, tmp_path)
    assert kubernetes.refusals == []
    assert kubernetes.evicted == PODS


def test_what_is_refused_to_the_end_says_who_and_why(kubernetes: Kubernetes, tmp_path: Path) -> None:
    kubernetes.refusals = ["the Kubernetes API refused: never"] * 1000
    with pytest.raises(DeadlineError, match=r"waited 0\.3 s for shop-kafka-1 to be evicted; .*refused: never"):
        restart(kubernetes, tmp_path, seconds=0.3)


def test_the_cache_is_awaited_until_it_serves_it(kubernetes: Kubernetes, tmp_path: Path) -> None:
    (listener, *_) = kubernetes.brokers.values()
    certificate = shop_certificates.wanted(kubernetes, SECRET, tmp_path)
    with pytest.raises(DeadlineError, match=f"to serve certificate {certificate.fingerprint[:12]}; it served"):
        shop_certificates.await_cache(listener.address, certificate, 0.2)
    listener.certificate = NEW
    assert shop_certificates.await_cache(listener.address, certificate, 5) == []


def test_a_certificate_of_another_authority_is_not_taken_for_ours(kubernetes: Kubernetes, tmp_path: Path) -> None:
    (listener, *_) = kubernetes.brokers.values()
    listener.certificate = certificates.make_server_certificate(certificates.make_authority("other"), NAMES, 9)
    certificate = shop_certificates.wanted(kubernetes, SECRET, tmp_path)
    with pytest.raises(DeadlineError, match="is not accepted"):
        shop_certificates.await_cache(listener.address, certificate, 0.2)


@pytest.mark.parametrize("key", ["ca.crt", "tls.crt"])
def test_a_secret_that_lacks_something_is_named(kubernetes: Kubernetes, tmp_path: Path, key: str) -> None:
    kubernetes.secret.pop(key)
    kubernetes.secret.pop("tls.pem")
    with pytest.raises(BadUseError, match=f"the Secret {SECRET} has no .*{key}"):
        shop_certificates.wanted(kubernetes, SECRET, tmp_path)


def test_key_and_certificate_in_one_file_are_enough(kubernetes: Kubernetes, tmp_path: Path) -> None:
    kubernetes.secret.pop("tls.crt")
    found = shop_certificates.wanted(kubernetes, SECRET, tmp_path)
    assert found.fingerprint == certificates.fingerprint(NEW.certificate)


def test_a_part_that_fails_holds_up_no_other_and_is_said(
    kubernetes: Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--cache=127.0.0.1:1", "--cache-secret=missing", "--brokers=shop-kafka", f"--brokers-secret={SECRET}"]
    words += [f"--broker={pod}={address}" for pod, address in brokers(kubernetes).items()]
    assert shop_certificates.main([*words, "--wait-seconds=10"], kubernetes) == 1
    said = capsys.readouterr()
    assert kubernetes.evicted == PODS
    assert said.err.splitlines() == ["the Secret missing has no ca.crt, by which its server could be checked"]
    assert "shop-kafka" not in said.err
    words = words[2:]
    assert shop_certificates.main([*words, "--wait-seconds=10"], kubernetes) == 0
    assert capsys.readouterr().out == f"brokers: the certificate of {SECRET} is served\n"
