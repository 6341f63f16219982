"""An alarm posted to somebody's web server: once, with a bound, and no harm when nobody takes it."""

import asyncio
import logging
from typing import Any

import aiohttp
from msgspec import json

from schemas.verdicts import Reported

logger = logging.getLogger(__name__)

TRIES = 2
PAUSE_S = 1.0


class Webhook:
    """Where alarms are posted to. The address may hold a secret: the log names its host only."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address = address
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self.failures = 0

    async def post(self, report: Reported) -> bool:
        """Post one alarm, and once more if that fails; False, and a line in the log, when it was not taken."""
        value = json.encode(payload(report))
        why = ""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(PAUSE_S)
            try:
                async with (
                    aiohttp.ClientSession(timeout=self._timeout) as session,
                    session.post(
                        self._address,
                        data=value,
                        headers={"Content-Type": "application/json"},
                        allow_redirects=False,
                    ) as answer,
                ):
                    if answer.status < 300:
                        return True
                    why = f"it answers {answer.status}"
            except TimeoutError:
                why = f"no answer in {self._timeout.total:g} s"
            except (aiohttp.ClientError, OSError) as error:
                why = type(error).__name__
        self.failures += 1
        logger.error("the webhook at %s did not take an alarm: %s", _host(self._address), why)
        return False


def payload(report: Reported) -> dict[str, Any]:
    """What is posted: `text` for chat rooms, the verdict for programs."""
    return {"text": line_of(report), "pipeline": report.pipeline, "alarm": report.alarm, "verdict": report}


def line_of(report: Reported) -> str:
    """An alarm as a person reads it."""
    severity = f"{report.severity}: " if report.severity else ""
    since = f" (since {report.since_ticket})" if report.since_ticket else ""
    return f"{report.pipeline} {report.alarm}: {severity}{report.verdict}: {report.sentence}{since}"


def _host(address: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(address).hostname or "?"
