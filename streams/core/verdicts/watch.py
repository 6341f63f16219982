"""The watch over a stream: one event in, at most one verdict out. Reads no clock, and its memory does not grow."""

from collections import Counter, deque
from typing import Any

import numpy as np
from msgspec.structs import replace

from streams.core.verdicts.cause import Finding, Moves, Witness, find
from streams.core.verdicts.events import Event, Setting
from streams.core.verdicts.freezing import Recorder
from streams.core.verdicts.intake import Intake
from streams.core.verdicts.probes import Probes
from streams.core.verdicts.reference import BLOCK, WINDOW, Reference
from streams.core.verdicts.ring import Ring
from streams.core.verdicts.said import NEAR, Bounds, Deploy, Said, known
from streams.core.verdicts.telling import Scene, meant, tell, too_few
from streams.core.verdicts.words import QUIET, Verdict

ROWS = BLOCK * WINDOW
LEAST_REFERENCE = 2_000
MOST_REFERENCE = 200_000
LEAST_ROWS = 500
LONGEST_GAPS = 1_000
MOST_DEPLOYS = 50
HOUR_MS = 3_600_000.0


class Watch:
    """Verdicts over one stream of events.

    The first `reference_rows` events are the reference and are never judged; every 1,000 events after them are a
    window with exactly one verdict. It comes before the window ends when something new is clear.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.counts: Counter[str] = Counter()
        self.intake = Intake(list(setting.models), self.counts)
        self.probes = Probes(list(setting.models))
        self.recorder: Recorder | None = Recorder(setting)
        self.reference_rows = min(setting.reference_rows, MOST_REFERENCE) // BLOCK * BLOCK
        self.reference: Reference | None = None
        self.ring: Ring | None = None
        self.without = ""
        self.buffer: list[Event] = []
        self.place = 0
        self.begins = setting.reference_rows
        self.window = 0
        self.said = False
        self.troubles: list[Said] = []
        self.ratios = np.empty(0)
        self.bounds = Bounds(setting.reference_rows, 0.0)
        self.versions: dict[str, Any] = {name: model.version for name, model in setting.models.items()}
        self.deploys: deque[Deploy] = deque(maxlen=MOST_DEPLOYS)
        self.told: Counter[str] = Counter()

    def offer(self, event: Event) -> Verdict | None:
        """Take one event; the verdict that it completes, if any."""
        if event.versions is not None and event.versions != self.versions:
            self._deployed(event)
        if event.probe is not None:
            self.probes.offer(event, self.place, frozen=self.reference is not None)
            return self._early() if self.reference is not None and self.probes.changed() else None
        self.place += 1
        if self.place <= self.setting.reference_rows:
            self._learn(event)
            return None
        if self.place - self.begins == 1:
            self.bounds = Bounds(self.place - 1, self._time(event))
        self.buffer.append(event)
        return self._block() if len(self.buffer) == BLOCK else None

    def freeze(self) -> None:
        """The reference is what was learnt so far; what follows is judged. Too little of it gives no answers."""
        self.reference_rows = self.place // BLOCK * BLOCK
        self.setting = replace(self.setting, reference_rows=self.place)
        self.begins, self.bounds = self.place, Bounds(self.place, self.intake.last_ms)
        self.buffer = []
        self._freeze()

    def finish(self) -> Verdict | None:
        """The verdict on the window that is not full, if any event is in it."""
        rows = self._rows()
        if not rows or (self.said and self.reference is not None):
            return None
        if self.place <= self.setting.reference_rows:
            return None
        if rows < LEAST_ROWS or self.reference is None:
            why = self.without or f"{rows} events, and at least {LEAST_ROWS} are needed"
            return self._close(too_few(why, self._notes()))
        if self.buffer:
            self._take()
        return self._judge(final=True)

    def expire(self, at_ms: float, span: str) -> Verdict | None:
        """Close the window at this time though it is not full; None when its verdict was said before.

        Events of which there are too few for an answer, and those beyond the last whole block, are in the next one,
        too. `span` says how long it was open.
        """
        rows = self._rows()
        if not rows:
            self.bounds = Bounds(self.place, at_ms)
        if self.said:
            self._next()
            return None
        if self.reference is not None and rows - len(self.buffer) >= LEAST_ROWS:
            return self._judge(final=True)
        why = self.without or f"{rows:,} events in {span}, and at least {LEAST_ROWS} are needed"
        begins, bounds = self.begins, self.bounds
        verdict = self._close(too_few(why, self._notes()))
        self.begins, self.bounds = begins, bounds
        return verdict

    def _rows(self) -> int:
        """Events in the window that is open."""
        return max(self.place - self.begins, 0)

    def _time(self, event: Event) -> float:
        return event.ts_ms if event.ts_ms == event.ts_ms else self.intake.last_ms

    def _learn(self, event: Event) -> None:
        if self.recorder is not None and self.place <= self.reference_rows:
            self.buffer.append(event)
            if len(self.buffer) == BLOCK:
                self.recorder.take(self.intake.rows(self.buffer))
                self.buffer = []
        if self.place == self.setting.reference_rows:
            self.buffer = []
            self._freeze()

    def _freeze(self) -> None:
        recorder, self.recorder = self.recorder, None
        if recorder is None or self.reference_rows < LEAST_REFERENCE:
            self.without = (
                f"the reference has {self.setting.reference_rows} events: at least {LEAST_REFERENCE:,} are needed"
            )
            return
        try:
            self.reference = recorder.freeze()
        except ValueError as error:
            self.without = f"no reference: {error}"
            return
        self.ring = Ring(self.reference)
        self.intake.longest_ms = max(LONGEST_GAPS * self.reference.gap_ms, HOUR_MS)
        self.ratios = np.zeros(self.reference.shifts.size)

    def _block(self) -> Verdict | None:
        last = self._rows() == ROWS
        if self.reference is None:
            self.buffer = []
            if self.without == "":
                self.without = "there is no reference: reference_rows is 0"
            return self._close(too_few(self.without, self._notes())) if last else None
        self._take()
        return self._judge(final=True) if last else self._early()

    def _take(self) -> None:
        assert self.ring is not None
        rows = self.intake.rows(self.buffer)
        self.ratios = self.ring.take(rows, self.place - len(self.buffer))
        self.buffer = []

    def _early(self) -> Verdict | None:
        if self.said or not self._rows():
            return None
        return self._judge(final=False)

    def _judge(self, *, final: bool) -> Verdict | None:
        """What the evidence says now; before the window's end only when it is news."""
        assert self.reference is not None
        assert self.ring is not None
        if final and self.said:
            self._next()
            return None
        if not self.ring.blocks:
            return None
        moves = Moves(
            self.reference,
            self.ratios,
            self.ring.lately(),
            self.ring.lasting(),
            self._deployed_of_late(),
            self.ring.won,
        )
        leading = int(np.argmax(np.abs(self.ratios)))
        witness = self._witness(self.ring.clear_since(leading))
        finding = find(self.reference, moves, self.probes, final=final, witness=witness)
        if finding is None or (not final and not self._news(finding)):
            return None
        scene = Scene(self.reference, self.ring, self.probes, self.ratios, list(self.deploys), self._notes())
        draft, self.troubles = tell(scene, finding, self.troubles, acquitted=witness is Witness.ACQUITS)
        return self._close(draft, final=final)

    def _deployed_of_late(self) -> set[int]:
        assert self.reference is not None
        names = {one.model for one in self.deploys if one.event >= self.place - NEAR}
        return {place for place, name in enumerate(self.reference.models) if name in names}

    def _witness(self, onset: int) -> Witness:
        """What the probes can say of something that began in the block of this event."""
        if self.probes.acquit(onset + BLOCK):
            return Witness.ACQUITS
        return Witness.TO_COME if self.probes.live(self.place - ROWS) else Witness.NONE

    def _news(self, finding: Finding) -> bool:
        if finding.word in QUIET:
            return False
        assert self.reference is not None
        return known(self.troubles, meant(self.reference, finding)) is None

    def _close(self, draft: Verdict, *, final: bool = True) -> Verdict:
        """Put the window's bounds to a verdict."""
        end = self.bounds.event + ROWS - 1
        whole = self._rows() == ROWS
        now_ms = self.intake.last_ms if np.isfinite(self.intake.last_ms) else 0.0
        verdict = replace(
            draft,
            window=self.window,
            from_event=self.bounds.event,
            to_event=end if not final or whole else self.place - 1,
            from_ms=_ms(self.bounds.at_ms),
            to_ms=_ms(now_ms),
            said_at_event=self.place - 1,
            said_at_ms=_ms(now_ms),
            events=self.place - self.bounds.event,
            probes=self.probes.in_window,
        )
        if final:
            self._next()
        else:
            self.said = True
        return verdict

    def _next(self) -> None:
        self.window += 1
        self.said = False
        self.begins = self.place - len(self.buffer)
        if self.buffer:
            self.bounds = Bounds(self.begins, self._time(self.buffer[0]))
        self.probes.next_window()

    def _deployed(self, event: Event) -> None:
        for name, version in (event.versions or {}).items():
            before = self.versions.get(name)
            if before != version and name in self.setting.models:
                if isinstance(before, str) and before:
                    self.deploys.append(Deploy(self.place, name, before, str(version)))
                    if self.reference is not None and self.ring is not None and name in self.reference.models:
                        self.ring.deployed(self.reference.models.index(name), self.place)
                self.versions[name] = version

    def _notes(self) -> list[str]:
        """What was counted since the last verdict, and what is missing."""
        fresh = self.counts - self.told
        self.told = Counter(self.counts)
        return [f"{count:,} {what}" for what, count in sorted(fresh.items())] + (
            self.ring.missing() if self.ring is not None else []
        )


def _ms(at_ms: float) -> int:
    return int(at_ms) if np.isfinite(at_ms) else 0
