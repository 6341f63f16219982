"""One agent that passes records on, in a process to be killed: `python -m tests.broker.relay BOOTSTRAP NAME`."""

import asyncio
import logging
import sys

from agents import process
from agents.actor import Actor
from streams.kafka.batch import Outgoing
from streams.kafka.clients import Cluster
from streams.kafka.edge import Edge
from streams.kafka.transport import BatchApp, create_app

POISON, PAUSE, BULKY = b"poison", b"pause", b"bulky"
"""What it cannot take; what it stands still at; what the records begin with of which it passes on no more than that."""
PAUSE_S = 4.0


def edge(cluster: Cluster, name: str, number: int = 0) -> Edge:
    return Edge(
        role="relay",
        consumer=cluster.consumer_settings(f"{name}.relay", f"{name}.relay.{number}")
        | {"auto.offset.reset": "earliest"},
        producer=cluster.producer_settings() | {"message.max.bytes": 4 << 20},
        dead_letters=f"{name}.dead-letters",
        dead_letter_cap=1 << 19,
    )


def relay(app: BatchApp, name: str) -> None:
    @app.agent(app.topic(f"{name}.in"), name="relay")
    async def relay(batches):
        async for batch in batches:
            if any(message.value() == POISON for message in batch.messages):
                raise ValueError("poisoned")
            if any(message.value() == PAUSE for message in batch.messages):
                await asyncio.sleep(PAUSE_S)
            values = [BULKY if m.value().startswith(BULKY) else m.value() for m in batch.messages]
            records = [
                Outgoing(f"{name}.out", v, m.key(), batch.partition)
                for m, v in zip(batch.messages, values, strict=True)
            ]
            await app.producer.send_batch(batch, records)


def main(bootstrap: str, name: str, number: str) -> int:
    logging.basicConfig(level="WARNING", stream=sys.stderr)
    cluster = Cluster(bootstrap)
    app = create_app(edge(cluster, name, int(number)), bootstrap)
    relay(app, name)
    return process.run(Actor(app, dict, lambda: False))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
