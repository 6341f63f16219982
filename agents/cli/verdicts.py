"""`rendezvous verdicts`: what changed, and whose fault it is: told by the monitor, or from a file of events."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import msgspec

from agents.cli.verdict_lines import line_of
from agents.cli.verdicts_told import Shown, told
from agents.cli.when import instant
from schemas.errors import UNREADABLE, RendezvousError, UnreadableRecord
from streams.core.verdicts.events import Setting, read_event, read_setting
from streams.core.verdicts.watch import Watch
from streams.core.verdicts.words import Verdict

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@click.command(short_help="what changed, and whose fault it is")
@click.option("-P", "--pipeline", "pipeline_file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes; alone, from now on.")
@click.option("--since", metavar="WHEN", help="Those said since then: 2h, or 2013-07-01T05:00.")
@click.option("--alarms", is_flag=True, help="Only those that changed what people are told.")
@click.option("--models", is_flag=True, help="Under each a line for each model: scores, failures, latency, wins.")
@click.option("--fields", is_flag=True, help="A line for each field: missing, new values, quantiles or words.")
@click.option("--by", default="", metavar="FIELD", help="The same by the values of one of [monitor] segments.")
@click.option(
    "--from-scores", "file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True),
    help="JSON lines, `-` for stdin: the setting, then one event a line.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a verdict.")
def verdicts(
    pipeline_file: Path | None,
    follow: bool,
    since: str | None,
    alarms: bool,
    models: bool,
    fields: bool,
    by: str,
    file: Path | None,
    as_json: bool,
) -> None:
    """Print the monitor's verdicts, one for every 1,000 requests after the reference; or judge a file of events.

    \b
      rendezvous verdicts --since 1d --alarms
      rendezvous verdicts --follow --json
      rendezvous verdicts --from-scores scores.jsonl --json | jq 'select(.severity == "page")'

    In a file the first line says who scores, how many events are the frozen reference, and which raw fields to watch:
    {"models": {"full": {"role": "champion", "version": "7"}}, "reference_rows": 20000, "features": ["amount"]};
    then each line is one event: {"ts_ms": 1, "features": {"amount": 3.5}, "scores": {"full": 0.2}}, with "versions",
    "latency_ms" and "probe" where they are known. "segments" in the first line are some of the features: where a
    change lies in one value of theirs alone that is said. What cannot be read is counted, and said at the end.
    """
    if file is None:
        since_ms = instant(since, "--since") if since else None
        shown = Shown(alarms=alarms, models=models, fields=fields, by=by, as_json=as_json)
        told(pipeline_file, shown, follow=follow, since_ms=since_ms)
        return
    if follow or alarms or models or fields or by or since is not None or pipeline_file is not None:
        raise click.UsageError(
            "--from-scores judges a file: --pipeline, --follow, --since, --alarms, --models, --fields and --by "
            "go without it"
        )
    with _opened(file) as lines:
        rest = iter(lines)
        watch = Watch(_setting(file, next(rest, None)))
        skipped: Counter[str] = Counter()
        for verdict in _judged(watch, rest, skipped):
            click.echo(_encode(verdict) if as_json else line_of(verdict))
    _tell(watch, skipped)


def _opened(file: Path) -> Any:
    if str(file) == "-":
        return nullcontext(click.get_binary_stream("stdin"))
    try:
        return file.open("rb")
    except OSError as error:
        raise RendezvousError(f"{file} cannot be read: {error.strerror}") from error


def _setting(file: Path, line: bytes | None) -> Setting:
    if line is None:
        raise UnreadableRecord(
            f"{file} is empty: its first line says who scores; rendezvous verdicts --help shows it"
        )
    try:
        return read_setting(_loads(line))
    except ValueError as error:
        raise UnreadableRecord(f"{file}, line 1: {error}") from error


def _judged(watch: Watch, lines: Iterable[bytes], skipped: Counter[str]) -> Iterator[Verdict]:
    for line in lines:
        if line.isspace():
            continue
        try:
            event = read_event(_loads(line))
        except ValueError:
            event = "no JSON"
        if isinstance(event, str):
            skipped[event] += 1
            continue
        verdict = watch.offer(event)
        if verdict is not None:
            yield verdict
    last = watch.finish()
    if last is not None:
        yield last


def _loads(line: bytes) -> Any:
    """JSON as it ought to be, else as others write it (NaN, Infinity); raises ValueError for what is none."""
    try:
        return _decode(line)
    except UNREADABLE:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError("no JSON") from error


def _tell(watch: Watch, skipped: Counter[str]) -> None:
    """What was not judged, to stderr."""
    notes = [f"{count:,} lines are no events: {why}" for why, count in skipped.items()]
    if watch.reference is not None:
        notes += watch.reference.notes
    elif watch.without:
        notes.append(watch.without)
    elif watch.place < watch.setting.reference_rows:
        notes.append(
            f"{watch.place:,} events: the reference of {watch.setting.reference_rows:,} is not complete: no verdict"
        )
    for note in notes:
        click.echo(f"rendezvous: {note}", err=True)
