"""The catalogue of topics: every name, what is on it, who writes and who reads it.

Names are `<pipeline>.<what>`; words are joined by `-`, never `_`, which metric names cannot tell from `.`.
All topics of a pipeline have the same number of partitions, what enters raw partition p stays in p; except those of
the roster, of the monitor, the tallies, `quality` and tables, which have one.
"""

from msgspec import Struct
from msgspec.structs import replace

from schemas.pipeline import Enrich, Model, Pipeline, PolicyKind

DEAD_LETTER_ROOM = 64 << 10
"""Bytes that dead letters may be larger than raw's cap: the original with its reason in the headers."""

BLOCK_CAP = 1 << 20
"""Bytes of one block: 256 rows of features, or of scores, fit many times over."""

REPLAY_ROOM = 4 << 10
"""Bytes that a replayed record may be larger than its original, which may have filled raw's limit."""

TABLE_CAP = 64 << 10
"""Bytes of one record of a table: it goes into every event of its key."""

KEPT_MS = 600_000
"""For how long at least no record of a table is compacted away: a router that starts again finds what it had."""

BATCH_ROOM = (1 << 20) + 12
"""Kafka's own default for a topic: its limit counts a producer's whole batch, which librdkafka fills to 1 MB. The
cap of a single record is the validator's to keep."""


class Entry(Struct, frozen=True):
    """One row of the catalogue, as the README shows it."""

    what: str
    value: str
    written_by: str
    read_by: str


RAW = Entry(
    "raw",
    "one JSON object, as the producer sent it",
    "producers, monitor",
    "router, rendezvous, standby, archiver, monitor",
)
NEEDS = Entry(
    "needs.<name>",
    "a block of rows that wait for the scores their model needs (with `needs`)",
    "router",
    "coupler",
)
MODEL = Entry("model.<name>", "a block of rows for one model (or one JSON each)", "router, coupler", "scorer")
SCORES = Entry(
    "scores",
    "a block of scores (or one JSON each), or a tick that tells the broker's time",
    "scorer, router, coupler, rendezvous, standby",
    "coupler, rendezvous, standby, archiver, monitor",
)
DECISIONS = Entry(
    "decisions",
    "one JSON decision, keyed as the raw event was",
    "rendezvous, standby",
    "consumers, rendezvous, standby, archiver, learner, monitor",
)
DEAD_LETTERS = Entry(
    "dead-letters",
    "the original bytes and headers; why and whence in more headers",
    "router, coupler, scorer, rendezvous, standby, up",
    "people, archiver",
)

LABELS = Entry(
    "labels",
    "one JSON object: a request's id or ticket, and its truth, when known",
    "labellers",
    "archiver, learner",
)

TALLIES = Entry(
    "tallies",
    "how often each model was right by the labels so far, one JSON object (only with a bandit; kept for ever)",
    "learner",
    "learner, rendezvous, standby, archiver",
)

ROSTER = Entry(
    "roster",
    "what a model is now, one JSON object by its name (compacted)",
    "operators, up, scorer, rendezvous",
    "router, coupler, scorer, rendezvous, standby, operators, people",
)
ROSTER_HISTORY = Entry(
    "roster-history",
    "one JSON move of a model: who, when, why, from, to (kept for ever)",
    "operators, up, scorer, rendezvous",
    "router, coupler, scorer, rendezvous, standby, archiver, monitor, up, operators",
)

VERDICTS = Entry(
    "verdicts",
    "one JSON verdict on each window of requests (with `[monitor]`)",
    "monitor",
    "people, archiver, monitor",
)
MINUTES = Entry(
    "minutes",
    "what a model did in one minute, one JSON object: counts, and sketches that add up (with `[monitor]`)",
    "monitor",
    "people, archiver",
)
PROBES = Entry(
    "probes",
    "the sum of the token that the monitor's probes carry (with `[monitor]`; compacted)",
    "monitor",
    "router, rendezvous, standby, monitor",
)
QUALITY = Entry(
    "quality",
    "one JSON object per day (or segment of it), model and version, once mature (with `[labels]`; compacted)",
    "archiver",
    "people, monitor",
)
TABLE = Entry(
    "<table>",
    "state from outside that is joined into events, one JSON object by its key (compacted)",
    "feeders",
    "router",
)
ENRICHED = Entry("enriched", "a block of what was joined into which requests", "router", "archiver, monitor")

CATALOGUE = (
    RAW,
    NEEDS,
    MODEL,
    SCORES,
    DECISIONS,
    DEAD_LETTERS,
    LABELS,
    TALLIES,
    ROSTER,
    ROSTER_HISTORY,
    VERDICTS,
    MINUTES,
    PROBES,
    QUALITY,
    TABLE,
    ENRICHED,
)


OF_A_MODEL = (NEEDS, MODEL)
"""What each model has topics of its own for."""


class Topic(Struct, frozen=True):
    """A topic as the broker is asked for it: `config` holds Kafka's own topic settings."""

    name: str
    entry: Entry
    partitions: int
    replication: int
    config: dict[str, str]


class Topics:
    """The topics of one pipeline, by name."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self.raw = f"{pipeline}.raw"
        self.scores = f"{pipeline}.scores"
        self.decisions = f"{pipeline}.decisions"
        self.dead_letters = f"{pipeline}.dead-letters"
        self.labels = f"{pipeline}.labels"
        self.tallies = f"{pipeline}.tallies"
        self.roster = f"{pipeline}.roster"
        self.roster_history = f"{pipeline}.roster-history"
        self.verdicts = f"{pipeline}.verdicts"
        self.minutes = f"{pipeline}.minutes"
        self.probes = f"{pipeline}.probes"
        self.quality = f"{pipeline}.quality"
        self.enriched = f"{pipeline}.enriched"

    def model(self, name: str) -> str:
        """Return the topic of one model's rows."""
        return f"{self.pipeline}.model.{name}"

    def needs(self, name: str) -> str:
        """Return the topic of one model's rows that wait for others' scores."""
        return f"{self.pipeline}.needs.{name}"

    def table(self, name: str) -> str:
        """Return the topic of one table's records."""
        return f"{self.pipeline}.{name}"


def topics_of(pipeline: Pipeline) -> list[Topic]:
    """Every topic this pipeline needs, in the order of the road."""
    names = Topics(pipeline.name)
    cap = pipeline.record_cap_bytes
    raw = max(BATCH_ROOM, cap) + (REPLAY_ROOM if pipeline.replay else 0)

    def rows_cap(model: Model) -> int:
        """One row with its event, and what is joined into that, must fit, whatever the record cap."""
        joined = DEAD_LETTER_ROOM + len(pipeline.enrich) * TABLE_CAP
        return max(BLOCK_CAP, cap + (joined if model.takes == "events" else 0))

    def topic(name: str, entry: Entry, max_bytes: int) -> Topic:
        config = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(max_bytes),
            "retention.ms": str(int(pipeline.retention_hours * 3_600_000)),
        }
        return Topic(name, entry, pipeline.partitions, pipeline.replication, config)

    def kept(name: str, entry: Entry, cleanup: str) -> Topic:
        """Of one partition, so that all of it has one order, and never too old."""
        config = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(BLOCK_CAP),
            "retention.ms": "-1",
            "cleanup.policy": cleanup,
        }
        return Topic(name, entry, 1, pipeline.replication, config)

    def table(one: Enrich) -> Topic:
        """Records of the past are kept as long as events may ask for them; the last of each key for ever."""
        found = kept(names.table(one.name), TABLE, "compact")
        needed_ms = max(KEPT_MS, int(one.keep_hours * 3_600_000) if one.as_of else 0)
        lag = {"min.compaction.lag.ms": str(needed_ms), "max.message.bytes": str(BATCH_ROOM)}
        return Topic(found.name, TABLE, found.partitions, found.replication, found.config | lag)

    # Of one partition, as all that the monitor says. Lists of small numbers, many: a quarter of them is left by gzip,
    # which Java has in itself, and they grow old as raw does.
    own = topic(names.minutes, MINUTES, BLOCK_CAP)
    minutes = Topic(own.name, own.entry, 1, own.replication, own.config | {"compression.type": "gzip"})
    enriched = [*map(table, pipeline.enrich), topic(names.enriched, ENRICHED, BLOCK_CAP)] if pipeline.enrich else []
    return [
        topic(names.raw, RAW, raw),
        *(topic(names.needs(model.name), NEEDS, rows_cap(model)) for model in pipeline.models if model.needs),
        *(topic(names.model(model.name), MODEL, rows_cap(model)) for model in pipeline.models),
        topic(names.scores, SCORES, BLOCK_CAP),
        topic(names.decisions, DECISIONS, BLOCK_CAP),
        topic(names.dead_letters, DEAD_LETTERS, raw + DEAD_LETTER_ROOM),
        topic(names.labels, LABELS, BLOCK_CAP),
        *([kept(names.tallies, TALLIES, "delete")] if pipeline.policy.kind is PolicyKind.BANDIT else []),
        kept(names.roster, ROSTER, "compact"),
        kept(names.roster_history, ROSTER_HISTORY, "delete"),
        *(
            [kept(names.verdicts, VERDICTS, "delete"), minutes, kept(names.probes, PROBES, "compact")]
            if pipeline.monitor
            else []
        ),
        *([kept(names.quality, QUALITY, "compact")] if pipeline.tells_quality else []),
        *enriched,
    ]


def topics_of_model(pipeline: Pipeline, model: Model) -> list[Topic]:
    """The topics of one model of this pipeline, be it in its file or not."""
    return [topic for topic in topics_of(replace(pipeline, models=(model,))) if topic.entry in OF_A_MODEL]


def topics_of_all(pipeline: Pipeline) -> list[Topic]:
    """The topics that it needs whatever its models are."""
    return [topic for topic in topics_of(pipeline) if topic.entry not in OF_A_MODEL]
