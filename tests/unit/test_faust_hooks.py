"""The private hooks of Faust the transport leans on: when a new Faust breaks one, this names it."""

import inspect

import faust
import mode
import pytest
from faust.agents import Agent
from faust.app.base import App
from faust.channels import Channel
from faust.streams import Stream
from faust.tables.manager import TableManager
from faust.topics import Topic
from faust.transport import base, drivers
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer, Fetcher
from yarl import URL

HOOKS = {
    "Agent._execute_actor": (Agent, "_execute_actor", ["self", "coro", "aref"]),
    "App._on_partitions_revoked": (App, "_on_partitions_revoked", ["self", "revoked"]),
    "App._on_partitions_assigned": (App, "_on_partitions_assigned", ["self", "assigned", "generation_id"]),
    "App._stop_consumer": (App, "_stop_consumer", ["self"]),
    "App.on_rebalance_start": (App, "on_rebalance_start", ["self"]),
    "App.on_rebalance_end": (App, "on_rebalance_end", ["self"]),
    "App._fetcher": (App, "_fetcher", None),
    "Conductor.on_partitions_assigned": (Conductor, "on_partitions_assigned", ["self", "assigned"]),
    "Conductor._update_tp_index": (Conductor, "_update_tp_index", ["self", "assigned"]),
    "Consumer.force_commit": (Consumer, "force_commit", ["self", "topics", "start_new_transaction"]),
    "Consumer.commit": (Consumer, "commit", ["self", "topics", "start_new_transaction"]),
    "Consumer.wait_empty": (Consumer, "wait_empty", ["self"]),
    "Consumer._drain_messages": (Consumer, "_drain_messages", ["self", "fetcher"]),
    "Consumer._commit_handler": (Consumer, "_commit_handler", None),
    "Consumer.on_partitions_assigned": (Consumer, "on_partitions_assigned", ["self", "assigned", "generation_id"]),
    "Consumer.on_partitions_revoked": (Consumer, "on_partitions_revoked", ["self", "revoked"]),
    "Consumer.resume_flow": (Consumer, "resume_flow", ["self"]),
    "Fetcher._fetcher": (Fetcher, "_fetcher", None),
    "Stream.__aiter__": (Stream, "__aiter__", ["self"]),
    "Stream.maybe_start": (Stream, "maybe_start", ["self"]),
    "Topic.__aiter__": (Topic, "__aiter__", ["self"]),
    "Channel.clone": (Channel, "clone", None),
    "TableManager._update_channels": (TableManager, "_update_channels", ["self"]),
    "TableManager.on_start": (TableManager, "on_start", ["self"]),
    "TableManager.on_rebalance": (
        TableManager,
        "on_rebalance",
        ["self", "assigned", "revoked", "newly_assigned", "generation_id"],
    ),
    "TableManager.wait_until_recovery_completed": (TableManager, "wait_until_recovery_completed", ["self"]),
    "TableManager.on_actives_ready": (TableManager, "on_actives_ready", ["self"]),
    "Transport.create_consumer": (base.Transport, "create_consumer", None),
    "Service.crash": (mode.Service, "crash", ["self", "reason"]),
    "Service.crash_reason": (mode.Service, "crash_reason", None),
    "Service.wait_until_stopped": (mode.Service, "wait_until_stopped", ["self"]),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_faust_still_has_the_hook(hook: str):
    owner, name, parameters = HOOKS[hook]
    assert hasattr(owner, name), f"Faust {faust.__version__} has no {hook}: the transport leans on it"
    if parameters is not None:
        found = list(inspect.signature(getattr(owner, name)).parameters)
        assert found == parameters, f"Faust {faust.__version__}: {hook} takes {found} now"


def test_drivers_are_found_by_scheme():
    drivers.TRANSPORTS["scheme-of-a-test"] = "streams.kafka.transport:Transport"
    assert drivers.TRANSPORTS.by_url(URL("scheme-of-a-test://127.0.0.1:9")).driver_version.startswith(
        "confluent-kafka"
    )


def test_the_conductor_indexes_channels_by_partition():
    assert "_tp_index" in inspect.getsource(Conductor.__init__)


def test_an_agent_iterates_a_clone_that_the_conductor_knows():
    source = inspect.getsource(Topic.__aiter__)
    assert "self.clone(is_iterator=True)" in source
    assert "self.app.topics.add" in source


def test_the_commit_timer_calls_commit():
    assert "self.commit()" in inspect.getsource(Consumer._commit_handler.fun)
