"""`models retire --delete-topic`: the topics of a model that nobody is asked for any more, once nobody needs them.

Its rows lie on its own topic, and on another one where they wait for others' scores. Who may still send a row there,
or reads there, is asked of Kafka and waited for. A router reads raw from where it has committed, whatever befalls it:
once that is past what came before the retirement counted, none sends a row there again. Whoever reads must have read
to the end, and be gone.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline
from schemas.rights import group_of
from schemas.roster import State
from schemas.topics import Topics, topics_of_model
from streams.core.entitlement import History
from streams.core.roster import Member
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.groups import Groups
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import RosterLog

LOOK_S = 0.5
NEXT = "Wait for it, or start who is missing, and say `models retire {name} --delete-topic` again"


class StillNeeded(ConfigurationRefused):
    """A topic that stays, because somebody may send there, or reads there."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Need:
    """What keeps a topic; `forcible` where it is rows that nobody would ever read."""

    said: str
    forcible: bool = False


def refuse_shared(history: History, name: str, version: str) -> None:
    """Raises StillNeeded when another version of this name reads the same topic."""
    for other in (history.roster.members[name], history.roster.beside.get(name)):
        if other is not None and other.model.version != version and other.state is not State.RETIRED:
            raise StillNeeded(f"{name} {other.model.version} reads the same topic: it stays, so no --delete-topic")


def end_topics(cluster: Cluster, pipeline: Pipeline, name: str, within_s: float, *, force: bool) -> list[str]:
    """Delete the topics of a model that is retired; returns their names, none where there were none.

    Waits for who needs them; with `force` not for rows that nobody would ever read. Raises StillNeeded with what is
    still in the way when the time is over, or when the name has been added anew.
    """
    log, admin, own = RosterLog(cluster, pipeline), Admin(cluster), Topics(pipeline.name)
    topics = sorted({own.model(name), own.needs(name)} & admin.partitions().keys())
    if not topics:
        return []
    begun_s = time.monotonic()
    while True:
        waited_s = time.monotonic() - begun_s
        history = log.read()
        member = _retired(history, name)
        entry = next(one for one in history.entries if one.position == member.position)
        lead_s = (entry.from_ms - entry.log_ms) / 1e3  # so long a request may come to which it does not count
        needs = _needs(cluster, pipeline, member, entry.from_ms, topics)
        left = "; ".join(need.said for need in needs if not (force and need.forcible))
        if not left and waited_s > lead_s:
            break
        if left and waited_s > within_s:
            raise StillNeeded(f"{' and '.join(topics)} stays: {left}. {NEXT.format(name=name)}")
        time.sleep(LOOK_S)
    admin.delete(topics)
    member = log.read().roster.members[name]
    if member.state is not State.RETIRED:
        admin.ensure(topics_of_model(pipeline, member.model))
        raise StillNeeded(f"{name} {member.model.version} was added meanwhile: {' and '.join(topics)} was made anew")
    return topics


def _retired(history: History, name: str) -> Member:
    member = history.roster.members[name]
    if member.state is not State.RETIRED:
        raise StillNeeded(f"{name} {member.model.version} is {member.state}: its topic stays")
    return member


def _needs(
    cluster: Cluster, pipeline: Pipeline, member: Member, from_ms: float, topics: Sequence[str]
) -> Iterator[Need]:
    """Who may still send to these topics, who reads them, and rows that wait there for nobody."""
    groups, own = Groups(cluster), Topics(pipeline.name)
    if behind := _unrouted(cluster, pipeline, groups, from_ms):
        yield Need(f"the router is still to read {behind} requests of {own.raw}, which came before that counted")
    alone = replace(pipeline, models=(member.model,))
    for topic, readers in groups.readers(topics).items():
        role = "coupler" if topic == own.needs(member.model.name) else "scorer"
        of_role = group_of(role, alone, member.model.name)
        for group in sorted({of_role, *readers}):
            waiting = _waiting(cluster, groups, group, topic)
            if hosts := readers.get(group):
                yield Need(f"{group} reads {topic} ({', '.join(hosts)}), {waiting} records wait for it")
            elif waiting:
                said = f"{waiting} records of {topic} wait for {group}, of which nobody is there"
                yield Need(f"{said}; --force deletes them", forcible=True)


def _unrouted(cluster: Cluster, pipeline: Pipeline, groups: Groups, from_ms: float) -> int:
    """How many requests from before this log time the router may still read, be it again."""
    topic = Topics(pipeline.name).raw
    with TopicReader(cluster, topic) as reader:
        lows = {number: low for number, (low, _) in reader.bounds().items()}
        firsts = reader.at_time(math.ceil(from_ms))
    read = groups.committed(group_of("router", pipeline), topic, reader.partitions)
    return sum(max(0, first - max(read.get(number, 0), lows[number])) for number, first in firsts.items())


def _waiting(cluster: Cluster, groups: Groups, group: str, topic: str) -> int:
    """How many records lie behind what a group has committed; all of them where it never has."""
    with TopicReader(cluster, topic) as reader:
        bounds = reader.bounds()
    read = groups.committed(group, topic, reader.partitions)
    return sum(end - min(end, max(read.get(number, low), low)) for number, (low, end) in bounds.items())
