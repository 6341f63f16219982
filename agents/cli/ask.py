"""`rendezvous ask`: one event in, its decision out."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from agents.cli import place
from agents.cli.decisions import first_finals
from agents.cli.send import _header
from schemas.decisions import Decision
from schemas.errors import KafkaUnreachable
from schemas.requests import Headers
from schemas.topics import Topics
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

SEND_S = 10.0
GRACE_S = 5.0


@click.command(short_help="one event, its decision")
@click.argument("event")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--budget-ms", type=int, help="Instead of the pipeline's.")
@click.option("--key", help="The record's key.")
@click.option("-H", "--header", "headers", multiple=True, help="k=v; may be repeated.")
@click.option("--refine", is_flag=True, help="An answer at once, better ones as they come, the final one last.")
@click.option("--diagnostics", is_flag=True, help="With the trace of the policy's steps.")
def ask(
    event: str,
    file: Path | None,
    budget_ms: int | None,
    key: str | None,
    headers: tuple[str, ...],
    refine: bool,
    diagnostics: bool,
) -> int:
    """Send one EVENT (JSON, or - for stdin), wait for its decision, print it.

    \b
      rendezvous ask '{"carrier": "UA", "origin": "EWR", ...}'
      head -1 events.jsonl | rendezvous ask - --refine

    Answers that are not final are shown on stderr, the final one on stdout.
    Exit 3 when the request was rejected or answered by the default.
    """
    pipeline = place.pipeline(file)
    value = sys.stdin.buffer.read().strip() if event == "-" else event.encode()
    pairs: Headers = [_header(text) for text in headers]
    if budget_ms is not None:
        pairs.append(("budget-ms", str(budget_ms).encode()))
    wanted = (("refine", refine), ("diagnostics", diagnostics))
    pairs += [(name, b"1") for name, is_wanted in wanted if is_wanted]
    wait_s = (budget_ms or pipeline.request.max_budget_ms) / 1e3 + GRACE_S
    decision = ask_once(place.cluster_to_ask(pipeline), Topics(pipeline.name), value, key, pairs, wait_s, _show)
    click.echo(msgspec.json.format(msgspec.json.encode(decision), indent=2).decode())
    return 0 if decision.model is not None else 3


def ask_once(
    cluster: Cluster,
    topics: Topics,
    value: bytes,
    key: str | None,
    headers: Headers,
    wait_s: float,
    revised: Callable[[Decision], None] = lambda _: None,
) -> Decision:
    """Send one event and wait for its final decision; raises KafkaUnreachable when none comes.

    `revised` is told of those that come before it.
    """
    with TopicReader(cluster, topics.decisions) as reader:
        reader.start("end")
        reader.poll(0)
        ticket = send_confirmed(cluster, topics.raw, value, key.encode() if key else None, headers)
        deadline_s = time.monotonic() + wait_s
        while time.monotonic() < deadline_s:
            for _, decision in first_finals(iter(reader.poll()), everything=True):
                if (decision.ticket.partition, decision.ticket.offset) == ticket:
                    if decision.final:
                        return decision
                    revised(decision)
    raise KafkaUnreachable(
        f"no decision for {ticket[0]}/{ticket[1]} within {wait_s:g} s: is the pipeline up (`rendezvous up FILE`)?"
    )


def _show(decision: Decision) -> None:
    found = f"revision {decision.revision} after {decision.used_ms} ms: {decision.model} {decision.score}"
    click.echo(f"{found}; {decision.reason}", err=True)


def send_confirmed(
    cluster: Cluster,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    headers: Headers | None = None,
) -> tuple[int, int]:
    """Send one event and see it confirmed; returns its ticket. Raises ClickException when it is not taken."""
    confirmed: list[Message] = []
    failed: list[KafkaError] = []

    def report(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error)
        else:
            confirmed.append(message)

    producer = Producer(cluster.producer_settings())
    try:
        producer.produce(topic, value, key, headers=headers, on_delivery=report)
    except KafkaException as error:
        failed.append(error.args[0])
    producer.flush(SEND_S)
    if failed or not confirmed:
        why = failed[0].str() if failed else f"not confirmed within {SEND_S:g} s"
        raise click.ClickException(f"{topic} does not take the event: {why}")
    return confirmed[0].partition() or 0, confirmed[0].offset() or 0
