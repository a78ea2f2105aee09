"""Bytes, time and processor seconds of each session, at the apiserver and at the kubelet."""

from __future__ import annotations

import time

import pytest

from fakekubelet import FakeCluster
from fakekubelet.accounting import PASSED, PROXIED, SERVED, TRANSLATED, SessionLog, SessionRecord
from support.apiservers import Api

MIB = 1 << 20


@pytest.mark.parametrize(
    ("profile", "websocket", "path"),
    [
        ("1.31", None, PASSED),
        ("1.31", "v5.channel.k8s.io", TRANSLATED),
        ("1.31", "v4.channel.k8s.io", PASSED),
        ("1.36", "v5.channel.k8s.io", PROXIED),
    ],
)
def test_both_servers_count_what_went_through(profile: str, websocket: str | None, path: str) -> None:
    with FakeCluster(profile=profile) as cluster:
        api = Api(cluster, "alice", ["system:masters"])
        assert len(api.run(["source", str(4 * MIB)], websocket=websocket).stdout) == 4 * MIB
        kubelet = cluster.kubelets["node-1"]
        (front,), (back,) = cluster.apiserver.sessions, kubelet.sessions
        front.wait(30)
        back.wait(30)
        assert (front.kind, front.target, front.user, front.path) == ("exec", "default/demo/main", "alice", path)
        assert (back.kind, back.target, back.path) == ("exec", "default/demo/main", SERVED)
        assert back.user == "kube-apiserver-kubelet-client"
        for record in (front, back):
            assert 4 * MIB < record.sent < 4 * MIB + 64 * 1024
            assert (record.received > 0) is (websocket is None or (path == TRANSLATED and record is back))
            assert record.received < 64 * 1024
            assert not record.open
            assert 0 < record.seconds < 30
            assert record.cpu_sent > 0
        if path in (PASSED, PROXIED):
            assert (front.sent, front.received) == (back.sent, back.received)
        assert cluster.apiserver.cpu_seconds >= front.cpu_sent + front.cpu_received
        assert kubelet.cpu_seconds >= back.cpu_sent + back.cpu_received
    assert cluster.apiserver.cpu_seconds > 0  # after the end, too


def test_metrics() -> None:
    with FakeCluster(profile="1.31") as cluster:
        api = Api(cluster)
        for _ in range(2):
            api.run(["echo", "x"])
        api.run(["echo", "x"], websocket="v5.channel.k8s.io")
        for record in cluster.apiserver.sessions:
            record.wait(30)
        text = api.request("GET", "/metrics").body.decode()
        assert 'kubewire_sessions_total{kind="exec",proxy_type="passed_through"} 2.0' in text
        assert 'kubewire_sessions_total{kind="exec",proxy_type="translated_at_apiserver"} 1.0' in text
        assert 'kubewire_session_bytes_total{direction="sent",kind="exec",proxy_type="passed_through"}' in text
        assert 'kubewire_session_cpu_seconds_total{direction="received"' in text
        assert "kubewire_sessions_open 0.0" in text
        assert (
            b'kubewire_sessions_total{kind="exec",proxy_type="served"} 3.0'
            in cluster.kubelets["node-1"].session_log.render()
        )


def test_open_sessions_count_and_the_log_is_bounded() -> None:
    log = SessionLog()
    records = [SessionRecord("exec", received=1) for _ in range(1500)]
    for record in records:
        log.began(record)
    for record in records[1:]:
        log.ended(record)
    assert len(log.records) == 1000
    assert log.totals()["exec", SERVED][:2] == [1500, 1500]
    assert b"kubewire_sessions_open 1.0" in log.render()
    with pytest.raises(TimeoutError, match="still open"):
        records[0].wait(0)


def test_a_direction_counts_the_threads_own_time() -> None:
    record = SessionRecord()
    with record.receiving():
        ends = time.thread_time() + 0.02
        while time.thread_time() < ends:
            pass
    with record.sending():
        pass
    assert record.cpu_received >= 0.02 > record.cpu_sent
