"""`rendezvous label`: what became of requests, from a file or stdin to `labels`."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from agents.cli import place
from agents.cli.explain import TICKET
from agents.cli.given import Rate, limited, read_values
from agents.cli.send import Sender
from schemas.errors import UNREADABLE, ConfigurationRefused, UnreadableRecord
from schemas.labels import decode_label
from schemas.topics import Topics

SHOWN = 5
"""Refused lines that are named; the rest are counted."""

WORDS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


@click.command(short_help="send what became of requests")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-P", "--pipeline", "pipeline_file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--truth", default="truth", show_default=True, help="Field of FILE with the truth: true or false.")
@click.option("--id", "id_field", default="request_id", show_default=True, help="Field of FILE with the id.")
@click.option("--known-at", default="known_at_ms", show_default=True, help="Field with the time it was known (ms).")
@click.option("--rate", type=Rate(), help="Labels per second; as fast as it goes when not given.")
@click.option("-c", "--count", type=click.IntRange(min=1), help="Stop after so many.")
@click.option("--dry-run", is_flag=True, help="Read, check and count; send nothing.")
def label(
    file: Path,
    pipeline_file: Path | None,
    truth: str,
    id_field: str,
    known_at: str,
    rate: float | None,
    count: int | None,
    dry_run: bool,
) -> int:
    """Send the labels of FILE (.jsonl, .csv, .parquet, or - for JSON lines on stdin) to labels.

    \b
      rendezvous label labels.jsonl
      rendezvous label landed.csv --truth late --id flight
      echo '{"ticket": "0/1234", "truth": true}' | rendezvous label -

    A label names its request by `request_id`, by `ticket` ("0/1234"), or both; a later one corrects an earlier one.
    A line that is no label is named and not sent, the others are: exit 1 then.
    """
    pipeline = place.pipeline(pipeline_file)
    if str(file) == "-" and sys.stdin.isatty():
        click.echo("reading JSON lines from the keyboard; Ctrl-D ends", err=True)
    reading = Reading(file, (truth,), id_field, known_at)
    labels = reading.labels(count)
    if dry_run:
        click.echo(f"{sum(1 for _ in labels):,} labels would be sent to {Topics(pipeline.name).labels}", err=True)
        return reading.exit_code()
    cluster = place.cluster_to_ask(pipeline, "labellers")
    sender = Sender(cluster, Topics(pipeline.name).labels, "request_id", [])
    sent, took_s = sender.send_all(labels, rate)
    click.echo(f"{sent:,} labels sent in {took_s:.1f} s, {sender.refused} refused", err=True)
    if sender.refused:
        raise click.ClickException(f"{sender.refused} labels were not taken: {sender.reason}")
    return reading.exit_code()


class Reading:
    """The lines of a file as records for `labels`; of the fields `truths` the last that a line has is its truth."""

    def __init__(
        self,
        file: Path,
        truths: Sequence[str] = ("late", "label", "truth"),
        id_field: str = "request_id",
        known_at: str = "known_at_ms",
    ) -> None:
        self.wrong = 0
        self._file = file
        self._id_field = id_field
        self._names = {id_field: "request_id", known_at: "known_at_ms", **dict.fromkeys(truths, "truth")}

    def labels(self, count: int | None) -> Iterator[bytes]:
        """Every line that is a label, as it is sent; what is none is told on stderr and counted."""
        for number, value in enumerate(limited(self._values(), count), 1):
            try:
                yield self._label(value)
            except UnreadableRecord as error:
                self.wrong += 1
                if self.wrong <= SHOWN:
                    click.echo(f"{self._file}:{number}: {error}", err=True)

    def whole(self) -> Iterator[bytes]:
        """Every line as a label; raises ConfigurationRefused at the first that is none, or when there is none."""
        number = 0
        for number, value in enumerate(self._values(), 1):
            try:
                yield self._label(value)
            except UnreadableRecord as error:
                raise ConfigurationRefused(
                    f'{self._file}:{number}: {error}; write {{"request_id": "...", "truth": true}}'
                ) from error
        if not number:
            raise ConfigurationRefused(f"{self._file}: no label; name a file that holds some")

    def _values(self) -> Iterator[bytes]:
        return read_values(self._file, {self._id_field})

    def exit_code(self) -> int:
        """1 when lines were left out, which is said."""
        if self.wrong:
            click.echo(f"{self._file}: {self.wrong:,} lines are no labels and were not sent", err=True)
        return 1 if self.wrong else 0

    def _label(self, value: bytes) -> bytes:
        try:
            line = msgspec.json.decode(value)
        except UNREADABLE as error:
            raise UnreadableRecord(f"not a label: {error}") from error
        if not isinstance(line, dict):
            raise UnreadableRecord("not a label: not an object")
        named = {own: line[name] for name, own in self._names.items() if name in line}
        record: dict[str, Any] = {**{name: line[name] for name in ("ticket", "weight") if name in line}, **named}
        record = {name: _read(name, found) for name, found in record.items() if found is not None}
        sent = msgspec.json.encode(record)
        decode_label(sent)
        return sent


def _read(name: str, found: Any) -> Any:
    """What a file says as a label has it."""
    if name == "truth":
        if isinstance(found, str):
            return WORDS.get(found.strip().lower(), found)
        return bool(found) if found in (0, 1) else found
    if name == "ticket" and isinstance(found, str) and (match := TICKET(found)):
        return {"partition": int(match[1]), "offset": int(match[2])}
    if name == "request_id" and isinstance(found, int | float) and not isinstance(found, bool):
        return str(int(found)) if float(found).is_integer() else str(found)
    if name == "known_at_ms" and isinstance(found, float) and found.is_integer():
        return int(found)
    return found
