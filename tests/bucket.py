"""A server that speaks S3, on loopback: moto's, made quick, for requests to it are what tests of the archive cost."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from moto import backends
from moto.moto_server import threaded_moto_server
from moto.server import ThreadedMotoServer


class Kept(threaded_moto_server.MotoRequestHandler):
    """Connections are kept, as S3 keeps them.

    Werkzeug's own handler closes each after one request, and first waits 10 ms for what the client may still send.
    Nothing is streamed here: a request is read whole before moto sees it, an answer is sent when all of it is there.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes

    def run_wsgi(self) -> None:
        environ = self.make_environ()
        # Read whole, whatever moto makes of it: what is left of it would be taken for the next request.
        chunked = "wsgi.input_terminated" in environ
        given = environ["wsgi.input"].read(*() if chunked else (int(self.headers.get("Content-Length") or 0),))
        environ["wsgi.input"] = BytesIO(given)
        said: list[tuple[str, list[tuple[str, str]]]] = []
        body = _whole(self.server.app(environ, lambda status, headers, _=None: said.append((status, headers))))
        ((status, headers),) = said
        self._answer(status, headers, body)

    def _answer(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers} and code != "204":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _whole(parts: Iterable[bytes]) -> bytes:
    try:
        return b"".join(parts)
    finally:
        getattr(parts, "close", lambda: None)()


@contextmanager
def served() -> Iterator[str]:
    """Serve until the block ends; gives the URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    services: Any = frozenset(backends.list_of_moto_modules())
    with pytest.MonkeyPatch.context() as patch:
        # It walks through its own folder at each request, which is a quarter of the server's time.
        patch.setattr(backends, "list_of_moto_modules", lambda: services)
        patch.setattr(threaded_moto_server, "MotoRequestHandler", Kept)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()
