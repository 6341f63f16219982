"""A finding becomes a verdict: whom it names, since when, how large, on what evidence, in one sentence."""

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from schemas.blocks import Matrix
from streams.core.verdicts import effects
from streams.core.verdicts.cause import Finding
from streams.core.verdicts.confined import Moved, columns_of, confined
from streams.core.verdicts.order import expectation
from streams.core.verdicts.probes import Probes
from streams.core.verdicts.reference import Reference
from streams.core.verdicts.ring import Kept, Ring
from streams.core.verdicts.said import NEAR, Deploy, Said, known, near, remembered
from streams.core.verdicts.sentences import sentence
from streams.core.verdicts.shifts import OWN, RAW
from streams.core.verdicts.trouble import Trouble, trouble_of
from streams.core.verdicts.words import QUIET, SEVERITY, Evidence, Statistic, Verdict, Word

SHOWN = 6
SEGMENT_LEAD = 1.3


class Scene(Struct):
    """What a verdict is told from."""

    reference: Reference
    ring: Ring
    probes: Probes
    ratios: Matrix
    deploys: list[Deploy]
    notes: list[str]


def too_few(why: str, notes: list[str]) -> Verdict:
    """No answer, and why."""
    return replace(BARE, verdict=Word.TOO_FEW, sentence=f"No answer: {why}.", notes=notes)


def meant(reference: Reference, finding: Finding) -> Trouble:
    """Whom a finding speaks of; where it is worst is not known yet."""
    models = frozenset(reference.models[model] for model in finding.models)
    return Trouble(finding.word, models, frozenset(reference.fields[field].name for field in finding.fields))


def tell(scene: Scene, finding: Finding, before: list[Said], *, acquitted: bool) -> tuple[Verdict, list[Said]]:
    """The verdict, without its window's bounds; and the troubles to remember: those of `before`, and this one."""
    changed = scene.probes.changed()
    witness = "changed: " + ", ".join(changed) if changed else "acquit" if acquitted else "none"
    evidence = _evidence(scene, witness, finding.statistic)
    bare = replace(BARE, verdict=finding.word, evidence=evidence, notes=scene.notes)
    if finding.word in QUIET:
        return replace(bare, sentence=sentence(finding, [], [], bare)), []
    trouble = meant(scene.reference, finding)
    found = known(before, trouble)
    said = found or _begun(scene, finding, trouble)
    verdict = _told(scene, finding, said, bare)
    trouble = trouble_of(verdict)
    if not said.trouble.same(trouble):  # in another segment
        found = known(before, trouble)
        said = found or _begun(scene, finding, trouble)
        verdict = _told(scene, finding, said, bare)
    return verdict, remembered(before, found, replace(said, trouble=said.trouble.refined(trouble)))


def _told(scene: Scene, finding: Finding, said: Said, bare: Verdict) -> Verdict:
    models = [scene.reference.models[model] for model in finding.models]
    fields = [scene.reference.fields[field].name for field in finding.fields]
    verdict = replace(
        bare,
        severity=SEVERITY[finding.word],
        model=", ".join(models) or None,
        field=", ".join(fields) or None,
        since_event=said.since_event,
        since_ms=said.since_ms,
        also=finding.also,
        deploys=[str(one) for one in near(scene.deploys, said.since_event) if not models or one.model in models],
    )
    verdict = _sized(scene, finding, said, verdict)
    return replace(verdict, sentence=sentence(finding, models, fields, verdict))


BARE = Verdict(
    window=0,
    verdict=Word.HEALTHY,
    sentence="",
    from_event=0,
    to_event=0,
    from_ms=0,
    to_ms=0,
    said_at_event=0,
    said_at_ms=0,
    events=0,
    evidence=Evidence([], [], "none"),
)


def _begun(scene: Scene, finding: Finding, trouble: Trouble) -> Said:
    """A new trouble's beginning: by the probes, or where the statistic began to lean."""
    since = scene.probes.since() if finding.by_probes else None
    if since is not None:
        kept = next((one for one in reversed(scene.ring.blocks) if one.start <= since), scene.ring.blocks[0])
        return Said(trouble, since, int(kept.start_ms))
    kept = scene.ring.onset(finding.statistic or 0)
    return Said(trouble, kept.start, int(kept.start_ms))


def _sized(scene: Scene, finding: Finding, said: Said, verdict: Verdict) -> Verdict:
    """The verdict with the size of the effect, and where it is largest."""
    reference, ring = scene.reference, scene.ring
    statistic = finding.statistic or 0
    what, _ = effects.name_of(reference, statistic)
    place = statistic - reference.shifts.groups[what].start
    recent = ring.since(said.since_event)
    live, usual = ring.window(len(recent))
    events = [event for kept in recent for event in kept.events]
    if finding.word is Word.TRAFFIC:
        return replace(verdict, effect=effects.of_traffic(reference, live, usual, what, place))
    if what == "joint" and len(finding.fields) > 1:
        return replace(verdict, effect=effects.of_pair(reference, live, usual, place))
    if finding.fields and what in RAW:
        field = reference.fields[place]
        moved = Moved(place, field.kind != "category", what)
        verdict = replace(verdict, effect=effects.of_field(field, what, events, live, usual, place))
        return _placed(scene, recent, moved, verdict)
    model = finding.models[0] if finding.models else _loudest(scene)
    twins = effects.of_twins(reference, live, scene.ratios, model)
    if twins and not finding.by_probes:
        return replace(verdict, effect=twins)
    effect = effects.of_model(reference, events, live, reference.whole(), model)
    if finding.by_probes:
        count, asked, largest = scene.probes.share_changed(reference.models[model])
        failed = len(scene.probes.answers[reference.models[model]].failed)
        effect += f"; {count} of {asked} probes answered otherwise"
        effect += f", {failed} with an error" if failed else ""
        effect += f", by up to {effects.plain(largest)}" if count > failed else ""
    kept_in = _order_kept(scene, finding, model, said) if finding.word in (Word.CODE, Word.CANARY) else ""
    if kept_in:
        return replace(verdict, effect=f"{effect}; order the same in {kept_in}", rescaled=True)
    found = replace(verdict, effect=effect, segment=_segment(scene, model))
    return _placed(scene, recent, Moved(len(reference.fields) + model, ordered=True), found)


def _placed(scene: Scene, recent: list[Kept], moved: Moved, verdict: Verdict) -> Verdict:
    """The verdict with the one value of a declared field that this lies in, if it does."""
    reference = scene.reference
    if not reference.declared.places:
        return verdict
    bins = np.concatenate([one.bins for one in recent])[:, : len(reference.fields)]
    ranks = reference.ranks.of(np.concatenate([one.scores for one in recent]))
    left = reference.expected.residuals(bins, ranks)[:, : len(reference.models)]
    events = [event for kept in recent for event in kept.events]
    where = confined(reference.declared, reference.fields, columns_of(reference.declared, bins, left), moved, events)
    return replace(verdict, segment=where, confined=True) if where else verdict


def _loudest(scene: Scene) -> int:
    groups = scene.reference.shifts.groups
    return int(np.argmax(np.max([np.abs(scene.ratios[groups[name]]) for name in OWN], axis=0)))


def _order_kept(scene: Scene, finding: Finding, model: int, said: Said) -> str:
    """Rescaled only: by the probes when they say so, else by the events since. In how many; empty when it is not.

    Features in a wrong order may differ on rare events alone (rain): of a hundred events none may be one.
    """
    reference, name = scene.reference, scene.reference.models[model]
    answers = scene.probes.answers[name]
    if finding.by_probes and (answers.failed or len(answers.differ) > 1):
        return f"{len(answers.last):,} probes" if scene.probes.order_kept(name) else ""
    recent = [one for one in scene.ring.blocks if one.start >= said.since_event]
    if not recent:
        return ""
    scores = np.concatenate([one.scores for one in recent])
    bins = np.concatenate([one.bins for one in recent])
    takeovers = [one.event for one in scene.deploys if one.takeover and one.model == name]
    deployed = [event for event in takeovers if event >= said.since_event - NEAR]
    since = max(deployed[-1] - recent[0].start, 0) if deployed else 0  # what came before it is as ever
    scores, bins = scores[since:], bins[since:, : len(reference.fields)]
    ranks = reference.ranks.of(scores)
    known = expectation(reference.expected, bins, ranks, reference.order.targets[model])
    kept = reference.order.kept(model, scores[:, model], ranks[:, model], known)
    return f"{len(scores):,} requests" if kept else ""


def _segment(scene: Scene, model: int) -> str | None:
    """Where the model's scores moved most, when one place of one field stands out from all of them together."""
    reference = scene.reference
    live = reference.shifts.side(scene.ring.window(len(scene.ring.blocks))[0])
    z = np.abs(reference.shifts.segments(live, reference.usual)[1][model])
    groups = reference.shifts.groups
    whole = np.abs(reference.shifts.of(live, reference.usual)[groups["unexplained"].start + model])
    if (
        not z.size
        or z.max() < SEGMENT_LEAD * whole
        or z.max() < reference.thresholds.of[1][groups["unexplained"].start]
    ):
        return None
    field, bin_ = (int(place) for place in np.unravel_index(int(np.argmax(z)), z.shape))
    return reference.fields[field].coarse_label(bin_, 1 << reference.expected.inputs.coarse.shift)


def _evidence(scene: Scene, witness: str, first: int | None) -> Evidence:
    """The statistic that decided, then the strongest that moved; of each kind that did not, the nearest."""
    size = np.abs(scene.ratios)
    order = [int(place) for place in np.argsort(-size, kind="stable") if size[place] >= 1 and place != first]
    order = ([first] if first is not None and size[first] >= 1 else []) + order[: SHOWN - 1]
    still = []
    for place in scene.reference.shifts.groups.values():
        if place.stop > place.start and size[place].max() < 1:
            still.append(place.start + int(np.argmax(size[place])))
    return Evidence([_figure(scene, place) for place in order], [_figure(scene, place) for place in still], witness)


def _figure(scene: Scene, place: int) -> Statistic:
    what, subject = effects.name_of(scene.reference, place)
    return Statistic(what, subject, round(float(scene.ratios[place]), 2))
