"""`rendezvous send`: events from a file or stdin to raw, or records to a table, at a steady rate."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from agents.cli import place
from agents.cli.given import Rate, limited, read_values, texts_of
from agents.cli.progress import progress
from schemas.errors import UNREADABLE, KafkaUnreachable, RendezvousError
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.core.table import key_of
from streams.kafka.clients import Cluster

FLUSH_S = 60
MIN_SLEEP_S = 0.002
LINGER_MS = 2
"""A little company for each record: the broker pays by the request."""


@click.command(short_help="send events from a file")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-P", "--pipeline", "pipeline_file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--rate", type=Rate(), help="Events per second; as fast as it goes when not given.")
@click.option("-c", "--count", type=click.IntRange(min=1), help="Stop after so many.")
@click.option("--key", help="Field that becomes the record's key.")
@click.option("--table", help="Feed this table of [[enrich]] instead of raw; its records need a --key.")
@click.option("-H", "--header", "headers", multiple=True, help="k=v, on every record; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Read and count; send nothing.")
def send(
    file: Path,
    pipeline_file: Path | None,
    rate: float | None,
    count: int | None,
    key: str | None,
    table: str | None,
    headers: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Send the events of FILE (.jsonl, .csv, .parquet, or - for JSON lines on stdin) to raw.

    \b
      rendezvous send events.jsonl --rate 1000
      head -5 events.jsonl | rendezvous send -
      rendezvous send reports.jsonl --table weather --key airport

    Lines of a .jsonl file are sent as they are, the malformed ones too. Cells of a .csv that read as numbers or
    booleans are sent as such, but for the request's id, the --key, and the pipeline's categories: these are text.
    """
    pipeline = place.pipeline(pipeline_file)
    topic = _topic(pipeline, table, key)
    if str(file) == "-" and sys.stdin.isatty():
        click.echo("reading JSON lines from the keyboard; Ctrl-D ends", err=True)
    texts = texts_of(pipeline, table, key)
    # A file is read once before, to its end: what cannot be read is refused before anything of it is sent.
    total = sum(1 for _ in limited(read_values(file, texts), count)) if dry_run or str(file) != "-" else None
    if dry_run:
        click.echo(f"{total:,} events would be sent to {topic}", err=True)
        return
    cluster = place.cluster_to_ask(pipeline, "feeders" if table else "producers")
    sender = Sender(cluster, topic, key, [_header(text) for text in headers])
    sent, took_s = sender.send_all(limited(read_values(file, texts), count), rate, total)
    click.echo(f"{sent:,} sent in {took_s:.1f} s, {sender.refused} refused", err=True)
    if sender.refused:
        raise click.ClickException(f"{sender.refused} events were not taken: {sender.reason}")


def _topic(pipeline: Pipeline, table: str | None, key: str | None) -> str:
    topics, known = Topics(pipeline.name), [one.name for one in pipeline.enrich]
    if table is None:
        return topics.raw
    if table not in known:
        raise click.UsageError(f"--table {table}: {pipeline.name} has {', '.join(known) or 'no table'}")
    if not key:
        raise click.UsageError(f"--table {table}: which field of its records is their key? Say --key")
    return topics.table(table)


class Sender:
    """A producer of one topic that keeps an absolute schedule."""

    def __init__(self, cluster: Cluster, topic: str, key: str | None, headers: list[tuple[str, bytes]]) -> None:
        self.refused = 0
        self.reason = ""
        self._topic = topic
        self._key = key
        self._headers = headers
        self._producer = Producer(cluster.producer_settings(LINGER_MS))

    def send_all(self, values: Iterable[bytes], rate: float | None, total: int | None = None) -> tuple[int, float]:
        """Send and confirm everything; returns how many, and in how many seconds. `total` is only shown.

        Raises KafkaUnreachable when a broker has not confirmed all of them FLUSH_S after the last, and what reading
        `values` raises once those before it are confirmed.
        """
        started_s = time.monotonic()
        sent = 0
        with progress("sent", total) as advance:
            try:
                for value in values:
                    if rate:
                        self._wait_until(started_s + sent / rate)
                    self._send(value)
                    sent += 1
                    advance(1)
            except RendezvousError:
                self._confirm(sent)
                raise
            self._confirm(sent)
        return sent, time.monotonic() - started_s

    def _confirm(self, sent: int) -> None:
        """The client gives no record up by itself, so one that no broker takes is in its queue, and nowhere else."""
        if left := self._producer.flush(FLUSH_S):
            raise KafkaUnreachable(
                f"{left:,} of {sent:,} records are not confirmed after {FLUSH_S:g} s, and may be lost: does a broker "
                f"lead every partition of {self._topic}? Send them again when it does"
            )

    def _wait_until(self, due_s: float) -> None:
        """Sleep rather than poll: librdkafka rounds a wait of under a millisecond down to none."""
        while (remaining_s := due_s - time.monotonic()) > 0:
            self._producer.poll(0)
            time.sleep(max(remaining_s, MIN_SLEEP_S))

    def _send(self, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic, value, self._key_of(value), headers=self._headers, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self._refuse(error.args[0])
                return
            else:
                return

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._refuse(error)

    def _refuse(self, error: KafkaError) -> None:
        self.refused += 1
        self.reason = self.reason or error.str()

    def _key_of(self, value: bytes) -> bytes | None:
        if self._key is None:
            return None
        try:
            found = msgspec.json.decode(value).get(self._key)
        except (*UNREADABLE, AttributeError):
            return None
        # As the router looks for it in a table: a whole number without a point.
        return key_of(found) or (None if found in (None, "") else msgspec.json.encode(found))


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"-H {text!r}: write name=value")
    return name, value.encode()
