"""Whose fault: one word from what moved, first match. Probes before statistics, raw input before models.

A changed model disturbs its own scores and its own pairs; shared code disturbs several models; new data shows in the
raw fields. A word is said before the window ends only when the others are far away.
"""

from collections.abc import Collection
from enum import StrEnum

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.verdicts.probes import Probes
from streams.core.verdicts.reference import Reference
from streams.core.verdicts.shifts import OWN, PAIRED, RAW, SCORES, STRANGE
from streams.core.verdicts.words import Also, Word

EARLY = 1.15
HURRIED = 2.0  # when the rate has moved, a window spans another time than those that thresholds come from
STILL = 3.75  # spreads: what the largest of some dozens of quiet statistics comes to
LEANING = 5.0
SOME = 0.7
LIKELY = 0.6  # of a threshold: a field that leans so far, when scores moved and the code is acquitted, is why
CALM = 0.7
APART = 1.5
CLEAR = 1.3
SLIGHT = 1.5  # of a threshold: chance reaches beyond it now and then, and is gone in the next window
LASTING = 0.5  # of a threshold, in the same direction, a window ago or in bets: what goes on was there before
AHEAD = 0.4  # in squares of thresholds: about ten in squares of z


class Witness(StrEnum):
    """What probes say of a change that statistics see."""

    ACQUITS = "acquits"  # all were asked again since it began, and every model answered as ever
    TO_COME = "to come"  # they are asked, and the round that will tell is not over
    NONE = "none"


class Finding(Struct):
    """What is the matter, before it is put into words. `statistic` is the one that moved most."""

    word: Word
    models: list[int] = []
    fields: list[int] = []
    statistic: int | None = None
    strength: float = 0.0
    by_probes: bool = False
    unusual: bool = False
    leaning: bool = False
    also: list[Also] = []


class Moves:
    """Sizes of all statistics as multiples of their thresholds, by whom they speak of."""

    def __init__(
        self,
        reference: Reference,
        ratios: Matrix,
        unconfirmed: Matrix,
        lasting: Matrix,
        deployed: Collection[int] = (),
        won: Collection[int] = (),
    ) -> None:
        """`unconfirmed`: the same before it is asked whether they were seen in the windows before as well.

        `lasting`: how much of it was there already, in the window before or in bets. `deployed` are models with a new
        version of late: no evidence by itself, it decides between two. `won` are those that are bet against and are
        losing: bets may be looked at whenever one likes, and so need no more to be said before a window ends.
        """
        self.deployed = deployed
        self.won = won
        self.lasting = np.abs(lasting)
        self.groups, self._shifts = reference.shifts.groups, reference.shifts
        # An unusual day: models are not blamed for what they make of input that they have hardly seen.
        self.unusual = _top(np.abs(unconfirmed[self.groups[RAW[0]].start : self.groups[RAW[-1]].stop])) >= 1.0
        self.hurried = _top(np.abs(unconfirmed[self.groups["rate"]])) >= 1.0
        self.size = np.abs(ratios)
        self.spreads = self.size * reference.thresholds.spreads_of_threshold()
        self.pairs = reference.expected.pairs
        self.upper = reference.shifts.upper
        models = len(reference.models)
        self.raw = self._largest(RAW)
        self.strange = self._largest(STRANGE)  # what a reference hardly ever has: a few are no chance
        self.joint = self.size[self.groups["joint"]]
        self.own = self._largest(OWN)
        self.margin = self._largest(SCORES)
        # The same, in spreads of what the reference itself does.
        self.leaning = self._largest((*SCORES, *OWN), self.spreads)
        self.leaning_between = self._between(self.spreads, models)
        self.alone = np.maximum(self.own, self.margin)  # what moved of a model, when the input did not
        self.between = self._between(self.size, models)
        self.traffic = self.size[self.groups["rate"].start :]

    def slight(self, statistic: int) -> bool:
        """Whether a statistic is little beyond its threshold, and was not on its way there before."""
        return bool(self.size[statistic] < SLIGHT and self.lasting[statistic] < LASTING)

    def _largest(self, names: tuple[str, ...], sizes: Matrix | None = None) -> Matrix:
        sizes = self.size if sizes is None else sizes
        return self._shifts.largest(sizes, names)

    def _between(self, sizes: Matrix, models: int) -> Matrix:
        """(models, models) the largest size of any pair of the two, given whichever of them."""
        found = np.zeros((models, models))
        one, other = np.array(self.pairs, np.intp).reshape(-1, 2).T
        found[one, other] = self._largest(PAIRED, sizes)
        return np.maximum(found, found.T)

    def strongest(self, names: tuple[str, ...], place: int | None = None) -> int:
        """The statistic that moved most among these groups, or among theirs of one subject."""
        found = [
            self.groups[name].start + (int(np.argmax(self.size[self.groups[name]])) if place is None else place)
            for name in names
            if self.groups[name].stop > self.groups[name].start
        ]
        return max(found, key=lambda statistic: float(self.size[statistic]))


def find(reference: Reference, moves: Moves, probes: Probes, *, final: bool, witness: Witness) -> Finding | None:
    """The word for this evidence; None when it is better to wait, which the end of a window (`final`) does not."""
    if changed := [reference.models.index(name) for name in probes.changed() if name in reference.models]:
        if not final and not probes.settled():
            return None
        return _by_probes(reference, moves, changed)
    enough = (1.0 if final else EARLY) * (HURRIED if moves.hurried else 1.0)
    raw, joint = _top(moves.raw), _top(moves.joint)
    if max(raw, joint) >= enough:
        return _lasting(moves, _data(reference, moves), final=final)
    disturbed = max(_top(moves.own), _top(moves.margin), _top(moves.between))
    if disturbed >= (enough if moves.hurried or not moves.won else 1.0):
        some = _top(moves.strange) >= SOME
        if not final and (some or disturbed < APART * max(raw, joint)):
            return None
        if some:
            return _strange(moves)
        if witness is Witness.ACQUITS:
            return _lasting(moves, _acquitted(reference, moves, disturbed), final=True) if final else None
        if witness is Witness.TO_COME or moves.unusual:
            return Finding(Word.HEALTHY, leaning=True) if final else None
        return _lasting(moves, _models(reference, moves, final=final), final=final)
    calm = CALM * (HURRIED if moves.hurried else 1.0)
    if _top(moves.traffic) >= (1.0 if final else EARLY) and (final or disturbed < calm):
        statistic = moves.strongest(("rate", "latency"))
        return Finding(Word.TRAFFIC, statistic=statistic, strength=float(moves.size[statistic]))
    return Finding(Word.HEALTHY) if final else None


def _top(sizes: Matrix) -> float:
    return float(sizes.max()) if sizes.size else 0.0


def _data(reference: Reference, moves: Moves) -> Finding:
    if _top(moves.raw) >= min(1.0, _top(moves.joint)) and _top(moves.raw) >= 1.0:
        field = int(np.argmax(moves.raw))
        statistic = moves.strongest(RAW, field)
        found = Finding(Word.DATA, fields=[field], statistic=statistic, strength=float(moves.raw[field]))
    else:
        pair = int(np.argmax(moves.joint))
        fields = [int(moves.upper[0][pair] // 2), int(moves.upper[1][pair] // 2)]
        found = Finding(
            Word.DATA, fields=fields, statistic=moves.groups["joint"].start + pair, strength=float(moves.joint[pair])
        )
    alone = sole(moves)
    if alone is not None and moves.own[alone] >= APART * found.strength:
        word = Word.CANARY if reference.canaries[alone] else Word.CODE
        found.also = [Also(word, reference.models[alone])]
    return found


def _strange(moves: Moves) -> Finding:
    """Scores moved, and a few values came that never came before: these are the cause."""
    field = int(np.argmax(moves.strange))
    return Finding(
        Word.DATA, fields=[field], statistic=moves.strongest(STRANGE, field), strength=float(moves.strange[field])
    )


def _by_probes(reference: Reference, moves: Moves, models: list[int]) -> Finding:
    word = Word.UPSTREAM if len(models) > 1 else Word.CANARY if reference.canaries[models[0]] else Word.CODE
    also = []
    if _top(moves.raw) >= 1.0:
        also = [Also(Word.DATA, reference.fields[int(np.argmax(moves.raw))].name)]
    statistic = moves.strongest((*OWN, *SCORES), models[0])
    return Finding(
        word, models=models, statistic=statistic, strength=float(moves.size[statistic]), by_probes=True, also=also
    )


def _acquitted(reference: Reference, moves: Moves, strength: float) -> Finding:
    """Scores moved, code did not, and no field shows why."""
    if reference.thresholds.clustered:
        return Finding(Word.HEALTHY, unusual=True)
    likely = int(np.argmax(moves.raw)) if moves.raw.size else -1
    if likely >= 0 and moves.raw[likely] >= LIKELY:
        return Finding(Word.DATA, fields=[likely], statistic=moves.strongest(RAW, likely), strength=strength)
    statistic = moves.strongest((*OWN, *SCORES, *PAIRED))
    return Finding(Word.DATA, statistic=statistic, strength=strength)


def _lasting(moves: Moves, found: Finding | None, *, final: bool) -> Finding | None:
    """The same, unless chance may have moved what it rests on: that is looked at once more."""
    if found is None or found.statistic is None or not moves.slight(found.statistic):
        return found
    return Finding(Word.HEALTHY, leaning=True) if final else None


def _models(reference: Reference, moves: Moves, *, final: bool) -> Finding | None:
    """One model alone, several together, or nobody can say."""
    alone = sole(moves)
    if alone is not None:
        word = Word.CANARY if reference.canaries[alone] else Word.CODE
        statistic = _of_model(moves, alone)
        return Finding(word, models=[alone], statistic=statistic, strength=float(moves.size[statistic]))
    moved = np.flatnonzero((moves.own >= 1.0) | ((moves.leaning >= LEANING) & (moves.own.max() >= 1.0))).tolist()
    statistic = moves.strongest((*OWN, *SCORES, *PAIRED))
    strength = float(moves.size[statistic])
    if len(moved) > 1:
        return Finding(Word.UPSTREAM, models=moved, statistic=statistic, strength=strength)
    if not final:
        return None
    odd = _odd_one_out(moves)
    if odd is not None:
        word = Word.CANARY if reference.canaries[odd] else Word.CODE
        return Finding(word, models=[odd], statistic=_of_model(moves, odd), strength=strength)
    if strength < CLEAR:
        return Finding(Word.HEALTHY, leaning=True)
    return Finding(Word.UNSURE, models=moved, statistic=statistic, strength=strength)


def _of_model(moves: Moves, model: int) -> int:
    own = moves.strongest((*OWN, *SCORES), model)
    mine = [number for number, pair in enumerate(moves.pairs) if model in pair]
    paired = [moves.groups[name].start + number for name in PAIRED for number in mine]
    return max([own, *paired], key=lambda statistic: float(moves.size[statistic]))


def sole(moves: Moves) -> int | None:
    """The only model that moved: the others by themselves, and their pairs without it, are still."""
    models = len(moves.own)
    found = []
    for model in range(models):
        others = [other for other in range(models) if other != model]
        mine = max(float(moves.alone[model]), float(moves.between[model].max()))
        if mine < 1.0:
            continue
        rest = _top(moves.leaning[others])
        without = _top(moves.leaning_between[np.ix_(others, others)])
        enough = moves.alone[model] >= 1.0 or models > 2
        if enough and rest <= STILL and without <= STILL:
            found.append(model)
    return found[0] if len(found) == 1 else _ahead(moves, found)


def _ahead(moves: Moves, candidates: list[int]) -> int | None:
    """Of models whose common pair moved, the one that has more against it besides, or has just been deployed."""
    if len(candidates) != 2:
        return None
    one, other = candidates
    rest = [model for model in range(len(moves.own)) if model not in candidates]
    against = [float(moves.alone[model] ** 2 + (moves.between[model, rest] ** 2).sum()) for model in candidates]
    if abs(against[0] - against[1]) < AHEAD:
        fresh = [model for model in candidates if model in moves.deployed]
        return fresh[0] if len(fresh) == 1 else None
    return one if against[0] > against[1] else other


def _odd_one_out(moves: Moves) -> int | None:
    """The model whose pairs moved 1.3 times as much as those without it, and 1.1 times the next one's."""
    models = len(moves.own)
    if models < 3:
        ahead = np.argsort(-moves.alone)
        return int(ahead[0]) if models == 2 and moves.alone[ahead[0]] >= APART * moves.alone[ahead[1]] else None
    mean = moves.between.sum(1) / (models - 1)
    order = np.argsort(-mean)
    first = int(order[0])
    others = [other for other in range(models) if other != first]
    without = moves.between[np.ix_(others, others)].sum() / max(len(others) * (len(others) - 1), 1)
    return first if mean[first] >= 1.3 * without and mean[first] >= 1.1 * mean[order[1]] else None
