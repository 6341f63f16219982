"""A model server on loopback that speaks the Open Inference Protocol, as well or as badly as a test wants."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FORM: dict[str, Any] = {
    "name": "doubler",
    "versions": ["1"],
    "platform": "test",
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1]}],
}

Reply = tuple[int, bytes]


def doubled(request: dict[str, Any]) -> Reply:
    """Twice the first feature of each row."""
    (tensor,) = request["inputs"]
    rows, width = tensor["shape"]
    scores = [2 * tensor["data"][row * width] for row in range(rows)]
    return answer({"name": "y", "datatype": "FP64", "shape": [rows], "data": scores})


def answer(*outputs: dict[str, Any]) -> Reply:
    return 200, json.dumps({"model_name": "doubler", "model_version": "1", "outputs": outputs}).encode()


@dataclass
class Server:
    """What it answers, and what it was asked."""

    infer: Callable[[dict[str, Any]], Reply] = doubled
    form: Callable[[], Reply] = lambda: (200, json.dumps(FORM).encode())
    drip_s: float = 0.0
    asked: list[dict[str, Any]] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/doubler/infer"


@contextmanager
def served(server: Server) -> Iterator[Server]:
    """Serve until the block ends, and cut what is connected then."""
    sockets: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            sockets.append(self.connection)

        def do_GET(self) -> None:
            self._say(*server.form())

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append(request)
            self._say(*server.infer(request))

        def _say(self, status: int, body: bytes) -> None:
            server.connections.add(self.client_address)
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for at in range(len(body)) if server.drip_s else ():
                    self.wfile.write(body[at : at + 1])
                    time.sleep(server.drip_s)
                if not server.drip_s:
                    self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", server.port), Handler)
    listening.daemon_threads = True
    server.port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        for one in sockets:
            with suppress(OSError):  # it has ended itself
                one.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def says(content: bytes) -> Iterator[str]:
    """Whatever is asked, this is what comes, and then the end; no HTTP unless the content is. Gives the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(1)
                    connection.recv(65_536)
                    connection.sendall(content)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v2/models/doubler/infer"
        ended.set()
        thread.join()
