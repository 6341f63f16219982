"""Faust agents at librdkafka's price: the transport that Faust finds under `librdkafka://`.

Faust keeps the app, the agents, their supervision, the index of topics, the commit timer and the rebalance
chain; the road of a record is ours (`reader` -> `consumer` -> `stream`, back by `producer`).
"""

import asyncio
import os
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import confluent_kafka
import faust
from faust.agents import Agent
from faust.transport import base, drivers

from streams.kafka.consumer import Consumer
from streams.kafka.edge import Edge
from streams.kafka.producer import Producer
from streams.kafka.stream import BatchStream, BatchTopic
from streams.kafka.tables import NoTables

SCHEME = "librdkafka"


class Transport(base.Transport):
    """Faust's factory of consumers and producers."""

    Consumer = Consumer
    Producer = Producer
    default_port = 9092
    driver_version = f"confluent-kafka={confluent_kafka.__version__}"


class BatchAgent(Agent):
    """An agent that goes on after an error of its own: with the same batch, then smaller, then without."""

    async def _execute_actor(self, coro: Awaitable[None], aref: Any) -> None:
        while True:
            try:
                await coro
            except asyncio.CancelledError:
                raise
            except Exception as error:
                try:
                    await self.app.consumer.retry(aref.stream.inbox, error)
                except Exception as fatal:
                    await self.app.crash(fatal)
                    return
                coro = self.fun(aref.stream)
            else:
                return


class BatchApp(faust.App):
    """A Faust app whose agents iterate over batches."""

    edge: Edge


def create_app(edge: Edge, bootstrap: str) -> BatchApp:
    """One role's app: its id is the consumer group. The agents are attached by the caller."""
    drivers.TRANSPORTS[SCHEME] = f"{__name__}:Transport"
    app = BatchApp(
        edge.consumer["group.id"],
        broker=[f"{SCHEME}://{address.strip()}" for address in bootstrap.split(",")],
        Topic=BatchTopic,
        Stream=BatchStream,
        Agent=BatchAgent,
        TableManager=NoTables,
        value_serializer="raw",
        key_serializer="raw",
        # Faust makes a folder for tables, of which there are none; not in the folder one stands in.
        datadir=str(Path(tempfile.gettempdir()) / f"faust-{os.getuid()}"),
        web_enabled=False,
        debug=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=10,
        broker_heartbeat_interval=3,
        broker_rebalance_timeout=10,
        broker_commit_interval=edge.commit_interval_s,
        stream_wait_empty=edge.committable is None,
    )
    app.edge = edge
    return app
