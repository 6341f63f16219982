"""When people are told: once when a state begins, when it becomes another, now and then while it lasts, when it ends.

The beginning counts at once, and so does a page after a notice. Another cause in the place of the one that is known,
and the end, have to be seen again: a window that wavers is no news. So has a change of code that statistics alone
speak of, where there are probes: they are asked at once, and tell before the next window ends.
"""

from schemas.verdicts import Alarm, Severity, Verdict, Word
from streams.core.absences import COUNTED
from streams.core.verdicts.trouble import Trouble, trouble_of

CODE = (Word.CODE, Word.UPSTREAM, Word.CANARY)
"""What a probe would have answered otherwise to."""

AGAIN = 2
"""Windows in a row that say another thing of the same urgency before that is told."""


class Alarms:
    """What people were told last, by the verdicts' own times."""

    def __init__(self, quiet_windows: int, remind_s: float, *, probed: bool = False) -> None:
        self.rule(quiet_windows, remind_s, probed=probed)
        self.told: Trouble | None = None
        self._severity: Severity | None = None
        self._told_ms = 0
        self._quiet = 0
        self._other: Trouble | None = None
        self._others = 0

    def rule(self, quiet_windows: int, remind_s: float, *, probed: bool) -> None:
        """When an alarm ends, how often it is said again, and whether there are probes to confirm one."""
        self._probed = probed
        self._quiet_windows = quiet_windows
        self._remind_ms = remind_s * 1e3

    @property
    def word(self) -> Word | None:
        """The word of the state that people know of; None when all is well."""
        return self.told.word if self.told else None

    def heard(self, verdict: Verdict) -> Alarm | None:
        """What the next verdict is to them; None when it is nothing new."""
        if verdict.verdict is Word.TOO_FEW:
            return None  # no answer is no news of either kind
        if verdict.quiet:
            return self._heard_quiet()
        self._quiet = 0
        says = trouble_of(verdict)
        if self.told is not None and self.told.same(says):
            self._others = 0
            self.told = self.told.refined(says)
            if verdict.said_at_ms - self._told_ms < self._remind_ms:
                return None
            self._told_ms = verdict.said_at_ms
            return Alarm.REMINDER
        graver = verdict.severity is Severity.PAGE and self._severity is not Severity.PAGE
        self._others = self._others + 1 if self._other is not None and self._other.same(says) else 1
        self._other = says
        if self._others < AGAIN and ((self.told and not graver) or self._doubtful(verdict)):
            return None
        alarm = Alarm.CHANGED if self.told else Alarm.RAISED
        self.told, self._severity, self._told_ms, self._others = says, verdict.severity, verdict.said_at_ms, 0
        return alarm

    def _doubtful(self, verdict: Verdict) -> bool:
        if verdict.evidence.moved and verdict.evidence.moved[0].what in COUNTED:
            return False
        return self._probed and verdict.verdict in CODE and verdict.evidence.probes == "none"

    def _heard_quiet(self) -> Alarm | None:
        self._others = 0
        self._quiet += 1
        if self.told is None or self._quiet < self._quiet_windows:
            return None
        self.told = self._severity = self._other = None
        return Alarm.CLEARED
