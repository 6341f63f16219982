"""What each word of a verdict means for people: how urgent it is, and which are silence. The words are `schemas`'."""

from schemas.verdicts import QUIET, Also, Evidence, Severity, Statistic, Verdict, Word

__all__ = ["QUIET", "SEVERITY", "Also", "Evidence", "Severity", "Statistic", "Verdict", "Word"]

SEVERITY = {
    Word.DATA: Severity.NOTICE,
    Word.CODE: Severity.PAGE,
    Word.UPSTREAM: Severity.PAGE,
    Word.CANARY: Severity.NOTICE,  # a canary never answers
    Word.TRAFFIC: Severity.NOTICE,
    Word.UNSURE: Severity.NOTICE,
}
