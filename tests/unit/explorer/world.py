"""The world: time goes on, members work, stall, commit, sleep and die, by dice."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from random import Random

from streams.core.watermark import Checkpoint
from tests.unit.explorer.law import judged
from tests.unit.explorer.logs import Partition
from tests.unit.explorer.members import Member, Variant


@dataclass
class World:
    """Everything that goes on, by dice; `counts` say what was explored."""

    dice: Random
    variant: Variant
    counts: Counter[str] = field(default_factory=Counter)
    now: int = 1_000

    def __post_init__(self) -> None:
        self.partitions = [Partition(0), Partition(1)]
        kinds = ("owner", "standby") if self.variant.twins else ("owner",)
        self.commits = {kind: {logs.number: Checkpoint(0, 0) for logs in self.partitions} for kind in kinds}
        self.members = {kind: self._member(kind) for kind in kinds}
        self.back_at: dict[str, int] = {}
        self.zombies: list[Member] = []

    def _member(self, kind: str) -> Member:
        return Member(self.dice, self.variant, self.partitions, self.commits[kind], kind, self.now)

    def explore(self, requests: int) -> Counter[str]:
        """Go on until so many requests were made, bring everybody up, and judge."""
        while sum(len(logs.raw) for logs in self.partitions) < requests:
            self._tick()
        self._settle()
        for logs in self.partitions:
            self.counts += judged(logs, first_wins=self.variant.first_wins)
        return self.counts

    def _tick(self) -> None:
        dice = self.dice
        self.now += dice.randint(0, 12)
        for logs in self.partitions:
            logs.produce(dice, self.now)
            logs.score(dice, self.now)
        for kind in self.commits:
            self._live(kind)
        if self.zombies:
            self._wake()

    def _live(self, kind: str) -> None:
        """One member's share of a tick: it works, stalls, commits, sleeps or dies."""
        dice, member = self.dice, self.members.get(kind)
        if member is None:
            if self.now >= self.back_at[kind]:
                self.members[kind] = self._member(kind)
            return
        if self.now >= member.asleep_until:
            member.step(dice, self.now)
        luck = dice.random()
        if luck < (0.2 if member.recovering else 0.015):
            self._crash(kind, member)
        elif luck < 0.025:
            member.asleep_until = self.now + dice.randint(0, 300)
        elif luck < 0.035 and self.variant.twins:
            self._becomes_zombie(kind, member)
        elif luck < 0.15:
            self._commit(kind, member)

    def _commit(self, kind: str, member: Member) -> None:
        """Commit; the variant without a watermark commits what was read."""
        for seat in member.seats:
            raw, scores = seat.logs.raw, seat.logs.scores
            if self.variant.watermark:
                found = seat.core.checkpoint()
            else:
                read = raw.offsets[seat.raw_at] if seat.raw_at < len(raw) else raw.end
                found = Checkpoint(read, scores.end)
            self.commits[kind][seat.logs.number] = found

    def _crash(self, kind: str, member: Member) -> None:
        """Some of the queue has reached the log, unconfirmed; somebody starts it again."""
        for seat in member.seats:
            self.counts["crashes in recovery"] += seat.recovery is not None
            seat.write(self.dice.randint(0, len(seat.queue)), self.now)
        self.counts[f"crashes of {kind}"] += 1
        self.back_at[kind] = self.now + self.dice.choice((0, 20, 150, 400))
        del self.members[kind]

    def _becomes_zombie(self, kind: str, member: Member) -> None:
        member.asleep_until = self.now + self.dice.randint(50, 1_500)
        self.zombies.append(member)
        self.counts["zombies"] += 1
        self.back_at[kind] = self.now + self.dice.choice((0, 20, 150))
        del self.members[kind]

    def _wake(self) -> None:
        """A zombie writes what it had queued; unless it notices its pause, it works on with what it knew."""
        for zombie in [zombie for zombie in self.zombies if self.now >= zombie.asleep_until]:
            if self.variant.pause_noticed:
                zombie.ends_at = self.now
                for seat in zombie.seats:
                    self.counts["zombie records"] += seat.write(len(seat.queue), self.now)
            else:
                zombie.ends_at = min(zombie.ends_at, self.now + 200)
                before = sum(len(logs.decisions) for logs in self.partitions)
                zombie.step(self.dice, self.now)
                self.counts["zombie records"] += sum(len(logs.decisions) for logs in self.partitions) - before
            if self.now >= zombie.ends_at:
                self.zombies.remove(zombie)

    def _settle(self) -> None:
        """Nobody dies any more: everything that is owed is answered within two seconds."""
        for _ in range(100):
            self.now += 20
            if self.zombies:
                self._wake()
            for kind in self.commits:
                if kind not in self.members:
                    self.members[kind] = self._member(kind)
                self.members[kind].step(self.dice, self.now, prompt=True)


def explored(worlds: int, requests: int, variant: Variant) -> Counter[str]:
    """Many worlds, one for each seed."""
    counts: Counter[str] = Counter()
    for seed in range(worlds):
        counts += _one(seed, requests, variant)
    assert counts["requests"] >= worlds * requests
    return counts


@cache
def _one(seed: int, requests: int, variant: Variant) -> Counter[str]:
    """One world: who asks for fewer of a variant asks for the same ones again."""
    return World(Random(seed), variant).explore(requests)
