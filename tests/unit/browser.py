"""A real browser, seen through the DevTools protocol: what it drew of a page, complained of, and asked the network for.

Any Chromium will do (Chrome and Edge are two): `BROWSER` names one, else the first on the PATH is taken. Firefox does
not speak this protocol. It is started without a network, with a profile of its own, and ends with the block.
"""

import asyncio
import base64
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from msgspec import json

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "microsoft-edge-stable",
)
GET_ONE = (
    "no browser here to look at the page with: install Chromium, Chrome or Edge (Debian: apt-get install chromium), or "
    "name one with BROWSER=/path/to/it"
)
FLAGS = (
    "--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--disable-sync", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
PATIENCE_S = 30.0


def found() -> str | None:
    """The browser to take; None where there is none."""
    named = os.environ.get("BROWSER", "")
    if "chrom" in named.lower() or "edge" in named.lower():
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def started(path: str, profile: Path) -> Iterator[str]:
    """A browser; gives the address of its DevTools."""
    # As root, as in most containers, Chromium's own sandbox does not start; nothing but our page is opened.
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [path, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:  # it ends with the process, so this does too
            said.append(line)
            if line.startswith("DevTools listening on "):
                yield line.split()[-1]
                return
        raise AssertionError(f"{path} ended with {process.wait()} before it was ready: {''.join(said[-5:])}")
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@dataclass
class Page:
    """One page; commands are answered in turn, and events that nobody waits for are kept."""

    socket: aiohttp.ClientWebSocketResponse
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _last: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's answer."""
        self._last += 1
        own = {"sessionId": self.session} if self.session else {}
        asked = json.encode({"id": self._last, "method": method, "params": parameters, **own})
        await self.socket.send_str(asked.decode())
        while (heard := await self._hear()).get("id") != self._last:
            self.events.append(heard)
        assert "error" not in heard, (method, heard["error"])
        answer: dict[str, Any] = heard["result"]
        return answer

    async def _hear(self) -> dict[str, Any]:
        heard = await self.socket.receive(PATIENCE_S)
        assert heard.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}, heard
        message: dict[str, Any] = json.decode(heard.data)
        return message

    async def open(self, address: str) -> None:
        """Go there, and wait until all of it is loaded."""
        before = len(self.events)
        await self.call("Page.navigate", url=address)
        await self.loaded(before)

    async def loaded(self, before: int) -> None:
        """Wait until a page is loaded, by an event after the first so many."""
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events[before:]):
            self.events.append(await self._hear())

    async def run(self, script: str) -> Any:
        """What a script comes to; a promise is waited for."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, script: str, what: str) -> None:
        """Wait until a script says true."""
        ends = asyncio.get_running_loop().time() + PATIENCE_S
        while not await self.run(script):
            assert asyncio.get_running_loop().time() < ends, what
            await asyncio.sleep(0.05)

    async def sized(self, width: int, height: int, media: str = "") -> None:
        """A window this wide, or paper."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.call("Emulation.setEmulatedMedia", media=media)

    async def screenshot(self) -> bytes:
        """The whole page as PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    async def printed(self) -> bytes:
        """The page as PDF, A4."""
        paper = await self.call(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False, generateTaggedPDF=False
        )
        return base64.b64decode(paper["data"])

    def complaints(self) -> list[str]:
        """Errors and warnings of the page's scripts, and of the browser about the page."""
        said = []
        for event in self.events:
            told, method = event.get("params", {}), event.get("method")
            if method == "Runtime.exceptionThrown":
                said.append(str(told["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and told["type"] in {"error", "warning", "assert"}:
                said.append(str(told["args"]))
            elif method == "Log.entryAdded" and told["entry"]["level"] in {"error", "warning"}:
                said.append(str(told["entry"]))
        return said

    def asked_for(self) -> list[str]:
        """Every address that was asked for, but those that lie in the page itself."""
        urls = [
            one["params"]["request"]["url"] for one in self.events if one.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]


@asynccontextmanager
async def page_of(address: str) -> AsyncIterator[Page]:
    """A new page of a browser that runs."""
    async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
        page = Page(socket)
        target = await page.call("Target.createTarget", url="about:blank")
        attached = await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        yield page
        page.session = ""
        await page.call("Target.closeTarget", targetId=target["targetId"])


def with_page(address: str, look: Callable[[Page], Any]) -> Any:
    """Run what looks at a page, on a loop of its own."""

    async def looked() -> Any:
        async with page_of(address) as page:
            return await look(page)

    return asyncio.run(looked())
