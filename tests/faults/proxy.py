"""A network that can be broken: what passes between clients and a broker, on loopback."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

CHUNK = 1 << 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Link:
    """One connection: two directions, each handed on in order, each chunk `delay_s` after it came."""

    def __init__(self, proxy: "Proxy", client: Streams) -> None:
        self.dead = proxy.half_open
        self._proxy = proxy
        self._client = client
        self._broker: Streams | None = None

    async def run(self) -> None:
        """Carry both ways until one side closes; a dead link lasts until the client gives it up."""
        if self.dead:
            await self._swallow()
            return
        self._broker = await asyncio.open_connection("127.0.0.1", self._proxy.upstream)
        ways = [(self._client[0], self._broker[1]), (self._broker[0], self._client[1])]
        tasks = [asyncio.ensure_future(self._carry(*way)) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if self.dead:
            await asyncio.wait(tasks[:1])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _swallow(self) -> None:
        while await self._client[0].read(CHUNK):
            pass

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        giving = asyncio.ensure_future(self._give(waiting, sink))
        try:
            while data := await source.read(CHUNK):
                waiting.put_nowait((loop.time() + self._proxy.delay_s, data))
        finally:
            giving.cancel()
            await asyncio.gather(giving, return_exceptions=True)

    async def _give(self, waiting: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, data = await waiting.get()
            if (early_s := due_s - loop.time()) > 0:
                await asyncio.sleep(early_s)
            if not self.dead:
                sink.write(data)
                await sink.drain()

    def cut(self) -> None:
        """Both sides see the connection reset."""
        for streams in (self._client, self._broker):
            if streams:
                streams[1].transport.abort()


class Proxy:
    """Listens on a port of its own and carries to the broker's; made, broken and healed from the test's thread."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.upstream = upstream
        self.delay_s = 0.0
        self.half_open = False
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._links)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(5), f"nothing listens on {self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def cut(self) -> int:
        """Reset every connection there is; returns how many."""
        links = len(self._links)
        self._loop.call_soon_threadsafe(lambda: [link.cut() for link in self._links])
        return links

    @contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """Everything takes this much longer, in each direction."""
        self.delay_s = seconds
        yield
        self.delay_s = 0.0

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Sockets open and stay open, and nothing is carried; connections of this time stay dead for ever."""
        self.half_open = True
        for link in list(self._links):
            link.dead = True
        yield
        self.half_open = False

    async def _run(self) -> None:
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port):
            self._listening.set()
            await self._stop.wait()
        for link in self._links:
            link.cut()
        while self._links:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, (reader, writer))
        self._links.add(link)
        with suppress(OSError):
            await link.run()
        link.cut()
        self._links.discard(link)
