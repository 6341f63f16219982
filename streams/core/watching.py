"""The watch over a pipeline that runs: gathered requests in, the records of `verdicts` out.

A watch has one reference. When the roster gives the pipeline other models, one more watch begins to learn beside the
one that judges, and takes its place when its reference is complete and nothing is wrong; where a person has set the
reference, it speaks of the new models only. Reads no clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import asdict, replace

from schemas.decisions import Ticket
from schemas.pipeline import MonitorSettings, Pipeline, Role
from schemas.roster import Began, Moved, Noted, State
from schemas.verdicts import FieldFigures, Reported, Verdict
from streams.core.absences import with_absences
from streams.core.alarms import Alarms
from streams.core.blame import ERROR
from streams.core.deployed import Standing, changes, changes_who_is_asked, standing
from streams.core.entitlement import Entry, Spans
from streams.core.field_figures import fields_of
from streams.core.first_answers import FirstAnswers, OfModel
from streams.core.gathering import Gathered
from streams.core.latest import Latest
from streams.core.minutes import Minutes
from streams.core.newcomers import with_newcomers
from streams.core.probing import Probing
from streams.core.score_figures import ScoreFigures
from streams.core.silences import with_silences
from streams.core.thin import span_of, thin
from streams.core.verdicts.events import Event, Model, Setting
from streams.core.verdicts.ring import Kept, Ring
from streams.core.verdicts.said import Deploy, near
from streams.core.verdicts.watch import LEAST_REFERENCE, MOST_REFERENCE
from streams.core.watched import EVERY, Watched


class Watching:
    """Verdicts on one pipeline; all that it knows is in its attributes, so that it can be kept."""

    def __init__(self, pipeline: Pipeline, settings: MonitorSettings, fields: Sequence[str]) -> None:
        self.pipeline = pipeline.name
        self.settings = settings
        self.fields = tuple(fields)
        self.alarms = Alarms(settings.quiet_windows, settings.remind_s, probed=settings.probes > 0)
        self.probing = Probing(settings.probes)
        self.carried: FirstAnswers | None = None
        """What probes were answered before a state was lost, until there is a watch that knows it."""
        self.judging: Watched | None = None
        self.reference = ""
        """Which window a person set as the reference, when, and who; empty while it is learnt from the log."""
        self.learning: Watched | None = None
        self.heard: Verdict | None = None
        """What the watch that is to take its turn, or stands beside a reference that was set, has said last."""
        self.figures = ScoreFigures(settings.segments)
        self.minutes = Minutes(settings.segments)
        self.standing = Standing()
        self.quarantined: dict[str, str] = {}
        self.closed_ms: float | None = None
        """When the last record was made, by the log's time; None until requests are judged."""
        self.told_fields: tuple[Kept | None, dict[str, FieldFigures]] = (None, {})
        """The newest block of the last record, and the figures of its fields."""
        self.ticket: Ticket | None = None
        self.moves = 0
        self.handed = 0
        self.unread = 0
        """Blocks of scores that could not be read, since the last record."""
        self.unread_to: dict[int, int] = {}
        """By partition, the last of them that was counted: a log is read again after a restart."""

    def follow(self, settings: MonitorSettings) -> None:
        """Go on by what the pipeline file says now of alarms; the reference stays."""
        self.settings = settings
        self.alarms.rule(settings.quiet_windows, settings.remind_s, probed=settings.probes > 0)
        if settings.probes != self.probing.count:
            self.probing = Probing(settings.probes)

    def carry(self, found: FirstAnswers | None) -> None:
        """Hold probes against the answers of a life before, if as many are asked for now."""
        if found is not None and found.count == self.probing.count:
            self.carried = found
            self.probing.take_over(found.probes, found.name)

    def first_answers(self) -> FirstAnswers | None:
        """What to carry into a life after; None while there are no probes."""
        if self.judging is None or not self.probing.chosen:
            return self.carried
        answers = self.judging.watch.probes.answers
        models = {name: OfModel(mine.first, mine.noise, mine.fails) for name, mine in answers.items() if mine.first}
        return FirstAnswers(self.probing.count, self.probing.name, self.probing.probes, models)

    def refer(self, said: str, watched: Watched) -> None:
        """Judge by a reference that was set, from the next request on."""
        self.reference, self.judging, self.learning, self.heard = said, watched, None, None
        self.closed_ms = None
        self._know(watched)

    @property
    def due_ms(self) -> float:
        """The log time after which there is to be a record, whatever has come until then."""
        return float("inf") if self.closed_ms is None else self.closed_ms + self.settings.window_s * 1e3

    def expire(self, until_ms: float, spans: Spans) -> Iterator[Reported]:
        """The records that are due before this log time, when all requests until then were offered."""
        while self.judging is not None and self.ticket is not None and self.due_ms < until_ms:
            at_ms, window_ms, watched = self.due_ms, self.settings.window_s * 1e3, self.judging
            self.closed_ms, began = at_ms, watched.watch.begins
            verdict = watched.expire(at_ms, span_of(window_ms), self.ticket)
            if verdict is None:  # it was said before
                watched.next_window(began)
                continue
            verdict = thin(verdict, self.figures.whole.requests, window_ms, (EVERY, watched.slowest_ms))
            verdict = replace(verdict, said_at_ms=int(at_ms), to_ms=int(at_ms))
            report = self._report(verdict, self.ticket, spans.at(at_ms))
            watched.next_window(began)
            yield report

    def offer(self, one: Gathered, pipeline: Pipeline) -> Reported | None:
        """One request, in the order of the log, and the models of its time; the record that it completes."""
        self.handed += 1
        if one.joined is None:  # by then nobody knows what models were given, nor that the tables had nothing
            self._not_joined(one, pipeline)
            return None
        versions = self._deployed(pipeline)
        if self.judging is None:
            self.judging = self._watched(one, pipeline)
            self._know(self.judging)
        elif not self.judging.name:
            self.judging.name = f"{one.ticket}@{one.at_ms}"
        elif self.learning is None and self._other_models(pipeline, self.judging):
            self.learning = self._watched(one, pipeline)
        self._count(one, pipeline)
        event = self._event(one, versions)
        if self.learning is not None:
            if self._other_models(pipeline, self.learning):
                self.learning = self.heard = None
            else:
                self.heard = self.learning.offer(one, event, self.quarantined) or self.heard
        verdict = self.judging.offer(one, event, self.quarantined)
        if one.probe is None:
            self.ticket = one.ticket
        report = self._report(verdict, one.ticket, pipeline) if verdict is not None else None
        if report is not None or (self.closed_ms is None and self.judging.watch.begins < self.judging.watch.place):
            self.closed_ms = float(one.at_ms)
        self._take_turns(report)
        return report

    def unreadable(self, places: Iterable[tuple[int, int]]) -> None:
        """Blocks of scores that could not be read, by partition and offset; each is counted once."""
        for partition, position in places:
            if position > self.unread_to.get(partition, -1):
                self.unread_to[partition] = position
                self.unread += 1

    def _know(self, watched: Watched) -> None:
        if self.carried is not None:
            for name, one in self.carried.models.items():
                watched.watch.probes.know(name, one.first, one.noise, fails=one.fails)
            self.carried = None

    def _count(self, one: Gathered, pipeline: Pipeline) -> None:
        if one.probe is None:
            self.figures.take(one, pipeline)

    def _not_joined(self, one: Gathered, pipeline: Pipeline) -> None:
        self._count(one, pipeline)
        if self.judging is not None and one.probe is None:
            self.judging.watch.counts["requests into which nothing was joined in time: they are not judged"] += 1

    def moved(self, entries: Sequence[Entry], at_ms: float) -> bool:
        """The roster's history, so far as it counts at this time; whether anything in it is new."""
        fresh = False
        for entry in entries[self.moves :]:
            if entry.from_ms > at_ms:
                break
            self.moves += 1
            self._quarantine(entry.record)
            fresh = fresh or changes_who_is_asked(entry.record)
        return fresh

    def _quarantine(self, record: Began | Moved | Noted) -> None:
        """Whose processes were given up is known, and nobody is told again; until it is said to be back, or goes."""
        if isinstance(record, Began):
            return
        if isinstance(record, Noted) and record.quarantined:
            self.quarantined[record.model] = record.version
            return
        ends = isinstance(record, Noted) or record.after is State.RETIRED
        if ends and self.quarantined.get(record.model) == record.version:
            del self.quarantined[record.model]

    def _deployed(self, pipeline: Pipeline) -> dict[str, str] | None:
        """Note what is deployed now; the versions, when they are others."""
        before, now = self.standing, standing(pipeline, self.standing)
        if now == before:
            return None
        self.standing = now
        for one in changes(before, now):
            for watched in (self.judging, self.learning):
                if watched is not None:
                    deploy = Deploy(watched.watch.place, one.model, one.before, one.after, takeover=False)
                    watched.watch.deploys.append(deploy)
        return dict(now.versions)

    def _take_turns(self, report: Reported | None) -> None:
        """The next watch judges once it can, and nobody is alarmed by the one before; one that was set stays."""
        learnt = self.learning is not None and self.learning.watch.place >= self.settings.reference_rows
        if learnt and report is not None and self.alarms.told is None and not self.reference:
            self.judging, self.learning, self.heard = self.learning, None, None

    def _event(self, one: Gathered, versions: dict[str, str] | None) -> Event:
        failed = tuple(name for name, why in one.without.items() if why == ERROR)
        return Event(float(one.at_ms), one.fields, one.scores, versions, one.took_ms or None, one.probe, failed)

    def _present(self, verdict: Verdict, pipeline: Pipeline) -> Verdict:
        """The verdict with those that no longer answer, of the models that are asked now, or no longer ask."""
        assert self.judging is not None
        expected = {
            model.name: model.role
            for model in pipeline.models
            if model.role is not Role.DECOY and self.quarantined.get(model.name) != model.version
        }
        roles = expected | {self.standing.champion: Role.CHAMPION}  # passed over, too
        verdict = with_absences(verdict, self.judging.attendance.absent(expected), roles, self.figures.where)
        return with_silences(verdict, self.judging.sources.silent(), self.judging.sources.field)

    def _report(self, verdict: Verdict, ticket: Ticket, pipeline: Pipeline) -> Reported:
        assert self.judging is not None
        if self.reference:
            verdict = with_newcomers(verdict, self.judging, self.learning, self.heard)
        verdict = self._present(verdict, pipeline)
        if self.unread:
            what = "blocks on scores that cannot be read: nothing in them is a score"
            verdict = replace(verdict, notes=[*verdict.notes, f"{self.unread:,} {what}"])
            self.unread = 0
        alarm = self.alarms.heard(verdict)
        verdict = replace(verdict, evidence=replace(verdict.evidence, reference=self._reference()))
        answers, winners = dict(self.figures.whole.answers), dict(self.figures.whole.winners)
        models, segments = self.figures.told()
        return Reported(
            **asdict(verdict),
            pipeline=self.pipeline,
            watch=self.judging.name,
            from_ticket=self.judging.window_begins,
            said_at_ticket=ticket,
            since_ticket=self.judging.ticket_of(verdict.since_event),
            answers=answers,
            winners=winners,
            models=models,
            segments=segments,
            sources=self.judging.sources.told(),
            fields=self._fields(self.judging.watch.ring),
            alarm=alarm,
            alarmed=self.alarms.word,
        )

    def _fields(self, ring: Ring | None) -> dict[str, FieldFigures]:
        """Those of the newest block, worked out once: a clock that jumps on by a month makes thousands of records."""
        newest = ring.blocks[-1] if ring is not None and ring.blocks else None
        if newest is None or newest is not self.told_fields[0]:
            self.told_fields = newest, fields_of(ring)
        return self.told_fields[1]

    def taken_over(self, model: str, since_event: int | None) -> tuple[str, str] | None:
        """The versions of a name before and after the takeover nearest to where something began; None without one."""
        if self.judging is None or since_event is None:
            return None
        found = near(self.judging.watch.deploys, since_event)
        return next(((one.before, one.after) for one in found if one.takeover and one.model == model), None)

    def recent(self) -> list[dict[str, Any]]:
        """The fields of the last window's requests, so far as they are remembered."""
        ring = self.judging.watch.ring if self.judging is not None else None
        return [event.features for kept in ring.blocks for event in kept.events] if ring is not None else []

    def _reference(self) -> str:
        assert self.judging is not None
        rows = f"{self.judging.watch.setting.reference_rows:,} requests"
        return f"{rows}, {self.reference}" if self.reference else f"{rows} from {self.judging.name} on, learnt"

    def _watched(self, first: Gathered, pipeline: Pipeline) -> Watched:
        settings = self.settings
        setting = Setting(_models(pipeline), settings.reference_rows, self.fields, settings.segments)
        return Watched(setting, first, settings.source)

    def _other_models(self, pipeline: Pipeline, watched: Watched) -> bool:
        """Whether the pipeline scores with a model that this watch has never known."""
        return not _models(pipeline).keys() <= watched.watch.setting.models.keys()


def _models_of(pipeline: Pipeline) -> dict[str, Model]:
    return {
        model.name: Model(str(model.role), model.version) for model in pipeline.models if model.role is not Role.DECOY
    }


_models = Latest(_models_of).of


def learnt(pipeline: Pipeline, fields: Sequence[str], past: Iterable[Gathered], spans: Spans) -> Watched:
    """A watch whose reference are these requests, ready to judge; raises ValueError when they are too few."""
    declared = pipeline.monitor or MonitorSettings()
    own = Watching(pipeline, replace(declared, reference_rows=MOST_REFERENCE + 1, probes=0), fields)
    for one in past:
        if one.probe is None:  # those of then are not asked any more
            own.offer(one, spans.at(one.at_ms))
    found = own.judging
    if found is None or found.watch.place < LEAST_REFERENCE:
        raise ValueError(f"{found.watch.place if found else 0:,} requests; at least {LEAST_REFERENCE:,} are needed")
    found.attendance.learn()
    found.sources.learn()
    found.watch.freeze()
    if found.watch.without:
        raise ValueError(found.watch.without)
    found.name = ""
    return found


def later(report: Reported, last: Reported | None) -> bool:
    """Whether a record is to be written after the last one that lies on the topic: no window is told twice."""
    if last is None:
        return True
    if report.watch == last.watch:
        return report.window > last.window
    return report.said_at_ms > last.said_at_ms
