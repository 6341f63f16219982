"""The golden check over an archive: is every request answered again as it was?"""

from pathlib import Path

from agents.cli.moved import moved
from agents.cli.past import UNCHANGED, held, live_decisions
from agents.cli.taught import taught
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.ranges import Period, read_period, require
from streams.core.answers import Names
from streams.core.golden import FirstChange, Golden, GoldenCheck
from streams.core.lead import LEAD_MS
from streams.core.past import Past, Way


def golden_check(root: Path, pipeline: Pipeline, period: Period) -> Golden:
    """Every partition of the range; raises ConfigurationRefused when there is nothing to compare."""
    topics, names, total = Topics(pipeline.name), Names(), Golden()
    numbers = require(root, topics.raw, pipeline.partitions)
    require(root, topics.scores, pipeline.partitions)
    require(root, topics.decisions, pipeline.partitions)
    before_ms = int(1e3 * pipeline.request.repeat_s)
    ways = moved(root, pipeline, taught(root, pipeline, [Way(UNCHANGED, pipeline)], period))
    for number in numbers:
        first = FirstChange(pipeline, number, LEAD_MS)
        past = Past(pipeline, number, ways, LEAD_MS, names, watch=first.seen)
        past.run(
            read_period(root, topics.raw, number, period, before_ms),
            read_period(root, topics.scores, number, Period(period.since_ms), before_ms),
        )
        if not past.variants:
            continue
        offsets, at_ms = past.asked.offsets, past.asked.at_ms
        again = past.variants[0].answered.rows(offsets)
        check = GoldenCheck(
            pipeline,
            offsets,
            at_ms,
            first.at_ms,
            again,
            names,
            past.scores,
            past.scores_end_ms,
            period.since_ms,
            ways[0].spans,
        )
        for _, decision in live_decisions(root, topics.decisions, number, period, past.raw_end_ms, before_ms):
            check.decided(decision)
        total.add(check.close())
    if not total.compared:
        why = [f"{count} {reason}" for reason, count in total.not_compared.most_common()]
        why += [f"{total.without_decision} have no archived decision"] if total.without_decision else []
        raise ConfigurationRefused(
            f"{root}: nothing to compare in {period}: {'; '.join(why) or 'no request'}; "
            f"{held(root, topics.raw, numbers)}, choose another range"
        )
    return total


def golden_lines(found: Golden) -> list[str]:
    """The check for people."""
    text = [
        f"{found.compared:>12,}  requests whose models answered in time",
        f"{found.equal:>12,}  answered the same, winner and score",
        f"{len(found.mismatches):>12,}  answered otherwise",
    ]
    text += [f"{count:>12,}  not compared: {reason}" for reason, count in sorted(found.not_compared.items())]
    if found.not_compared:
        text.append(f"{found.equal_all_the_same:>12,}  of these the same all the same")
    if found.without_decision:
        text.append(f"{found.without_decision:>12,}  without an archived decision")
    return text
