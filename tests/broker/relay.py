"""One agent that passes records on, in a process to be killed: `python -m tests.broker.relay BOOTSTRAP NAME`."""

import logging
import sys

from agents import process
from agents.actor import Actor
from streams.kafka.batch import Outgoing
from streams.kafka.clients import Cluster
from streams.kafka.edge import Edge
from streams.kafka.transport import BatchApp, create_app

POISON = b"poison"


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
            records = [Outgoing(f"{name}.out", m.value(), m.key(), batch.partition) for m in batch.messages]
            await app.producer.send_batch(batch, records)


def main(bootstrap: str, name: str, number: str) -> int:
    logging.basicConfig(level="WARNING", stream=sys.stderr)
    cluster = Cluster(bootstrap)
    app = create_app(edge(cluster, name, int(number)), bootstrap)
    relay(app, name)
    return process.run(Actor(app, dict, lambda: False))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
