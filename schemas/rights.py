"""What a role's principal must be allowed, and no more: read from the catalogue's own columns."""

from collections.abc import Iterable

from msgspec import Struct

from schemas.pipeline import Pipeline
from schemas.topics import MODEL, NEEDS, Topic, Topics, topics_of


class Rights(Struct, frozen=True):
    """Topics to read and topics to write; each is also looked at (its partitions and settings)."""

    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...]

    @property
    def topics(self) -> list[Topic]:
        """All of them, each once."""
        return list({topic.name: topic for topic in (*self.reads, *self.writes)}.values())


def group_of(role: str, pipeline: Pipeline, model: str = "") -> str:
    """The consumer group of a role, which it must be allowed to use: a scorer's is that of its model and version."""
    version = pipeline.model(model).version if role == "scorer" and model else ""
    return ".".join(word for word in (pipeline.name, role, model, version) if word)


def rights_of(pipeline: Pipeline, role: str, model: str = "") -> Rights:
    """The rights of one role; a scorer reads, and a coupler reads and writes, the rows of its own model only."""
    names = Topics(pipeline.name)
    others = {MODEL: names.model(model), NEEDS: names.needs(model)} if model else {}
    topics = [topic for topic in topics_of(pipeline) if others.get(topic.entry, topic.name) == topic.name]
    return Rights(
        tuple(topic for topic in topics if role in topic.entry.read_by.split(", ")),
        tuple(topic for topic in topics if role in topic.entry.written_by.split(", ")),
    )


def together(rights: Iterable[Rights]) -> Rights:
    """The rights of one principal for several roles."""
    every = list(rights)
    return Rights(
        tuple({topic.name: topic for one in every for topic in one.reads}.values()),
        tuple({topic.name: topic for one in every for topic in one.writes}.values()),
    )
