"""Where a version's scorer begins that nobody has committed for, and the rows it practises on before.

Each name and version has a group of its own, so a new version has no place in its topic yet. It begins where it was
staged: it scores beside the one before it from then on, and is warm when it takes over. One that the pipeline file
has always named begins with what could still be answered, not with what a week has left.
"""

from collections.abc import Iterator, Mapping, Sequence
from time import monotonic

from confluent_kafka import TopicPartition
from faust.types import TP

from schemas.blocks import Rows, decode_rows
from schemas.errors import UnreadableRecord
from schemas.pipeline import MAX_BUDGET_MS, Model, Pipeline
from schemas.roster import Moved, State
from schemas.topics import Topics
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import RosterLog

PRACTICE_RECORDS = 64
"""Of each partition: the last ones, as this name's other version was given them."""

PRACTICE_S = 10.0
"""So long, and one record: a slow model is warm by then, and `up` ends a scorer that loads for two minutes."""


class Beginning:
    """One model of the pipeline, and its topic."""

    def __init__(self, pipeline: Pipeline, model: Model, cluster: Cluster, log: RosterLog) -> None:
        self._start = pipeline.start
        self._model = model
        self._topic = Topics(pipeline.name).model(model.name)
        self._cluster = cluster
        self._log = log

    def practice(self, width: int) -> Iterator[Rows]:
        """The last rows on its topic, where there are any of so many features, while there is time; blocks."""
        until_s = monotonic() + PRACTICE_S
        with TopicReader(self._cluster, self._topic) as reader:
            starts = {number: max(low, end - PRACTICE_RECORDS) for number, (low, end) in reader.bounds().items()}
            for message in reader.to_end(starts):
                try:
                    rows = decode_rows(message.value())
                except UnreadableRecord:
                    continue  # who reads it for good keeps it as a dead letter
                if rows.matrix.shape[1] == width:
                    yield rows
                if monotonic() >= until_s:
                    return

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Where to read on, for partitions in which nothing is committed; blocks."""
        new = [place.partition for place in committed if place.offset < 0]
        if not new or self._start == "latest":
            return {}
        staged_ms = self._staged_ms()
        with TopicReader(self._cluster, self._topic) as reader:
            since = dict.fromkeys(new, staged_ms)
            if staged_ms is None:
                since = {number: self._oldest_ms(reader, number) for number in new}
            return {
                TP(self._topic, number): reader.at_time(int(at_ms))[number]
                for number, at_ms in since.items()
                if at_ms is not None
            }

    def _staged_ms(self) -> float | None:
        """The log time at which this version was staged last; None where the roster did not bring it."""
        own = (self._model.name, self._model.version)
        times = [
            entry.log_ms
            for entry in self._log.read().entries
            if isinstance(entry.record, Moved) and entry.record.after is State.STAGED
            if (entry.record.model, entry.record.version) == own
        ]
        return times[-1] if times else None

    def _oldest_ms(self, reader: TopicReader, number: int) -> float | None:
        """The log time before which no row can be answered any more, by the last one; None of an empty partition."""
        low, end = reader.bounds()[number]
        last = next(reader.to_end({number: max(low, end - 1)}), None)
        return last.timestamp()[1] - MAX_BUDGET_MS if last is not None else None
