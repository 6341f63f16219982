"""The network: connections cut, slow, and open but silent. Every role reaches Kafka only through the proxy.

The load and the checker do not: requests come all the while.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agents.settings import cache_dir
from streams.kafka.clients import Cluster
from streams.kafka.local import QUICK_START, LocalBroker, free_ports
from tests.broker.pipelines import Up, until
from tests.faults.conftest import LONG, Note, life, living
from tests.faults.flow import flow
from tests.faults.load import RATE, Load, assert_kept, findings
from tests.faults.proxy import Proxy
from tests.faults.work import all_at_work, assert_all_at_work, await_rest, restarts

BACK_S = 5 if LONG else 20
"""How soon answers come again after the network is well; the short form runs wherever it runs."""

STUCK_S = 30


@dataclass(frozen=True, slots=True)
class Roads:
    """One broker, and two ways to it."""

    direct: Cluster
    proxied: Cluster
    proxy: Proxy


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roads]:
    """A broker with a second listener, advertised under the proxy's address."""
    port = free_ports(4)
    direct, controller, inner, outer = (f"127.0.0.1:{port + number}" for number in range(4))
    listeners = f"PLAINTEXT://{direct},CONTROLLER://{controller},PROXIED://"
    properties = {
        "listeners": listeners + inner,
        "advertised.listeners": listeners + outer,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
    }
    broker = LocalBroker(
        tmp_path_factory.mktemp("behind-a-proxy"),
        cache_dir(os.environ),
        properties=properties,
        java_options=QUICK_START,
        heap_mb=256,
        port=port,
    )
    broker.start()
    with Proxy(port + 3, port + 2) as proxy:
        yield Roads(Cluster(direct), Cluster(outer), proxy)
    broker.stop_if_started()


@pytest.fixture(scope=life)
def remote(roads: Roads, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A pipeline behind the proxy; whoever looks at it is not."""
    with living(roads.proxied, tmp_path_factory.mktemp("remote")) as pipeline:
        pipeline.cluster = roads.direct
        yield pipeline


def answered_since(pipeline: Up, since_ms: float) -> bool:
    """Whether a request that came after this moment has its answer."""
    seen = flow(pipeline.cluster, pipeline.name)
    return any(at_ms >= since_ms and place in seen.answers for place, at_ms in seen.asked_ms.items())


@pytest.mark.timeout(240)
def test_connections_that_are_cut_cost_nothing(roads: Roads, remote: Up, note: Note):
    await_rest(remote)
    before, times, cut = restarts(remote), 10 if LONG else 3, 0
    at_least = 2 * len(remote.status["roles"])
    with Load(roads.direct, remote.topics.raw, RATE) as load:
        load.wait(2 if LONG else 1)
        for _ in range(times):
            until(lambda: roads.proxy.connections >= at_least, STUCK_S, "every client is connected")
            cut += roads.proxy.cut()
            load.wait(1)
        back_ms = time.time() * 1e3
        load.wait(5 if LONG else 2)
    found = findings(remote, remote.file, load)
    assert_kept(found)
    seen = flow(roads.direct, remote.name).of(load.acknowledged)
    assert_all_at_work(remote)
    ended = restarts(remote) - before
    assert cut >= at_least * times, "every client was cut"
    done = f"{cut} connections in {times} cuts; longest silence {seen.longest_gap_s():.1f} s, {ended} restarts"
    note("all connections cut at once", done, found)
    assert seen.again_s(back_ms) <= BACK_S


@pytest.mark.timeout(240)
def test_a_slow_network_is_only_slow(roads: Roads, remote: Up, note: Note):
    await_rest(remote)
    before, slow_s = restarts(remote), 30 if LONG else 4
    with Load(roads.direct, remote.topics.raw, RATE, budget_ms=4000) as load:
        load.wait(2 if LONG else 1)
        with roads.proxy.delayed(0.2):
            load.wait(slow_s)
        back_ms = time.time() * 1e3
        load.wait(5 if LONG else 2)
    found = findings(remote, remote.file, load)
    assert_kept(found)
    seen = flow(roads.direct, remote.name).of(load.acknowledged)
    assert_all_at_work(remote)
    ended = restarts(remote) - before
    slowest_ms = max(seen.answered_ms[place] - at_ms for place, at_ms in seen.asked_ms.items())
    assert slowest_ms > 4 * 200, "four ways through the proxy at least"
    preferred = sum(answer.outcome == "preferred" for answer in seen.answers.values()) / len(seen.answers)
    done = f"{slow_s} s, budget 4 s; {preferred:.1%} preferred, slowest answer {slowest_ms:,} ms, {ended} restarts"
    note("200 ms added in each direction", done, found)
    assert preferred >= (0.99 if LONG else 0.9), "the budget is ten times what the network takes"
    assert ended == 0, "slow is not stuck"
    assert seen.again_s(back_ms) <= BACK_S


@pytest.mark.timeout(240)
def test_a_silent_network_holds_nobody_for_long(roads: Roads, remote: Up, note: Note):
    await_rest(remote)
    ended_before, silent_s = restarts(remote), 30 if LONG else 5
    with Load(roads.direct, remote.topics.raw, RATE) as load:
        load.wait(2 if LONG else 1)
        with roads.proxy.silent():
            load.wait(silent_s)
        back_ms = time.time() * 1e3
        until(lambda: all_at_work(remote) and answered_since(remote, back_ms), STUCK_S, "everybody works again")
        load.wait(5 if LONG else 1)
    found = findings(remote, remote.file, load)
    assert_kept(found)
    seen = flow(roads.direct, remote.name).of(load.acknowledged)
    ended = restarts(remote) - ended_before
    again_s, in_time_s = seen.again_s(back_ms), seen.in_time_s(back_ms)
    done = f"{silent_s} s; answers again {again_s:.1f} s after it, in time after {in_time_s:.1f} s, {ended} restarts"
    note("half-open: sockets open, nothing carried", done, found)
    assert again_s <= (10 if LONG else STUCK_S)
