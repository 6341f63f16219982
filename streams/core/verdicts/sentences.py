"""One sentence that a person can act on, for each word."""

from streams.core.verdicts.cause import Finding
from streams.core.verdicts.words import Verdict, Word


def sentence(finding: Finding, models: list[str], fields: list[str], verdict: Verdict) -> str:
    """What happened, and what to do next."""
    word, effect, who = finding.word, verdict.effect, " and ".join(models)
    where = f" ({'only' if verdict.confined else 'mostly'} where {verdict.segment})" if verdict.segment else ""
    after = f" It began near a deploy: {verdict.deploys[0]}." if verdict.deploys else ""
    match word:
        case Word.HEALTHY if finding.leaning:
            return "Nothing moved beyond doubt: something leans, and the evidence does not say whose it is."
        case Word.HEALTHY:
            return "An unusual day: scores moved, the code is acquitted." if finding.unusual else "Nothing moved."
        case Word.DATA if not fields:
            return (
                "Scores moved while the probes acquit the code: the input changed where no field shows it"
                f"{where}; {effect}."
            )
        case Word.DATA if len(fields) > 1:
            return (
                f"{' and '.join(fields)} do not go together as before: {effect}. "
                "Look at the join or the source that fills them."
            )
        case Word.DATA:
            return f"{fields[0]} changed{where}: {effect}. Ask its source; {_acquitted(verdict.evidence.probes)}."
        case Word.CODE if verdict.rescaled:
            return (
                f"{who} is rescaled, order unchanged: {effect}. "
                f"Look for a new calibration or file; thresholds on its score no longer fit.{after}"
            )
        case Word.CODE:
            return (
                f"{who} changed, the input did not{where}: {effect}. "
                f"Compare its file and its own feature code with the version before.{after}"
            )
        case Word.CANARY:
            return (
                f"The yardstick changed: canary {who}{where}: {effect}. "
                f"Restore it first; comparisons with it mean nothing until then.{after}"
            )
        case Word.UPSTREAM:
            return (
                f"{who} moved together, the raw input did not{where}: {effect}. "
                f"Look at the feature code or feed they share.{after}"
            )
        case Word.TRAFFIC:
            return f"Only the traffic changed: {effect}. Look at producers and load; input and scores are as before."
        case Word.UNSURE:
            return f"Something moved, and the evidence does not say whose it is: {effect}. Send probes to know."
        case _:
            return effect


def _acquitted(probes: str) -> str:
    return "the probes acquit the code" if probes == "acquit" else "the models do what they did"
