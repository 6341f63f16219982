"""A model server that speaks the Open Inference Protocol, version 2: one POST with a block of rows, n scores back.

The scorer waits for it as it waits for any model, but no longer than the rows have left, and never longer than
`timeout_ms`. Its errors are errors of the rows, with the reason; a server that is slow, dead, or answers nonsense is
this model's own problem. Of a block that the server refuses each half is sent again, while there is time: one bad row
costs that row only. aiohttp, in a thread of its own, because its limit is on the whole exchange: a server that sends
one byte a second is given up in time, where a limit on each read would wait for ever.

Protocol: "Open Inference Protocol", HTTP/REST, Required API (model metadata, inference).
"""

import asyncio
import atexit
import threading
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from schemas.blocks import Matrix
from schemas.pipeline import Model
from streams.core.given import Given
from streams.models.checked import RowsRefused, Score, Unanswered
from streams.models.extras import needed
from streams.models.tensors import chosen, scores_in

PAUSES_S = (0.02, 0.1)
"""Before it is asked again: a server that starts anew refuses connections for a moment."""
AWAY = (429, 502, 503, 504)
"""Statuses that say nothing of the rows: it, or what stands before it, is busy or away."""
THE_ROWS = (400, 413, 422, 500)
"""Statuses that one row may be the cause of."""
ANSWER_BYTES = 8 << 20
FORMS = {"FP32": np.float32, "FP64": np.float64}


class Away(Exception):
    """The server is busy or away; it may be there in a moment."""


class TensorForm(msgspec.Struct, frozen=True):
    """What the server says of an input."""

    name: str
    datatype: str
    shape: list[int]


class ModelForm(msgspec.Struct, frozen=True):
    """What the server says of the model."""

    inputs: list[TensorForm]


class Tensor(msgspec.Struct, frozen=True):
    """One output."""

    name: str
    shape: list[int]
    data: list[Any]


class Answer(msgspec.Struct, frozen=True):
    """What the server makes of the rows."""

    outputs: list[Tensor]


def http_score(model: Model, features: tuple[str, ...]) -> Score:
    """A model behind HTTP, ready to be asked; the server need not be there yet. Raises ModelRefused."""
    needed(model, "aiohttp", "http", "kind http")
    endpoint = Endpoint(model, len(features))
    atexit.register(endpoint.close)
    return endpoint


class Endpoint:
    """One model of one server, and the connections to it. For one caller at a time."""

    def __init__(self, model: Model, width: int) -> None:
        self._model = model
        self._width = width
        self._form: TensorForm | None = None
        self._session: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"http {model.name}", daemon=True)
        self._thread.start()

    def __call__(self, given: Given) -> Any:
        """The scores of n rows; raises Unanswered, or RowsRefused, which halves may mend."""
        limit_ms = min(float(self._model.timeout_ms), given.left_ms)
        if limit_ms <= 0:
            raise Unanswered("no time was left to ask for it")
        return asyncio.run_coroutine_threadsafe(self._within(given.matrix, limit_ms), self._loop).result()

    def close(self) -> None:
        """Let go of the connections and end the thread."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _within(self, matrix: Matrix, limit_ms: float) -> Any:
        try:
            async with asyncio.timeout(limit_ms / 1e3):
                return await self._again(matrix, self._loop.time() + limit_ms / 1e3)
        except TimeoutError as error:
            raise Unanswered(f"the server did not answer within the {limit_ms:.0f} ms that were left") from error

    async def _again(self, matrix: Matrix, until_s: float) -> Any:
        """Ask, and ask again while the server is away, never beyond the time."""
        for pause_s in (*PAUSES_S, None):
            try:
                return await self._ask(matrix)
            except Away as error:
                if pause_s is None or self._loop.time() + pause_s >= until_s:
                    raise Unanswered(f"{error}, asked until the time or the attempts were used up") from error
                await asyncio.sleep(pause_s)
        raise AssertionError("the last pause is None")

    async def _ask(self, matrix: Matrix) -> Any:
        base = self._model.url.removesuffix("/infer")
        if self._form is None:
            self._form = self._checked(_decoded(await self._exchange("GET", base), ModelForm))
        form = self._form
        rows = matrix.astype(FORMS[form.datatype])
        tensor = {"name": form.name, "shape": list(rows.shape), "datatype": form.datatype}
        request: dict[str, Any] = {"inputs": [{**tensor, "data": rows.ravel().tolist()}]}
        if self._model.output:
            request["outputs"] = [{"name": self._model.output}]
        try:
            content = await self._exchange("POST", self._model.url, msgspec.json.encode(request))
        except (RowsRefused, Unanswered):
            self._form = None  # it may be another model by now
            raise
        return self._scores(_decoded(content, Answer))

    def _checked(self, form: ModelForm) -> TensorForm:
        """The one input; raises Unanswered when it is not this pipeline's."""
        fits = (
            len(form.inputs) == 1
            and form.inputs[0].datatype in FORMS
            and len(form.inputs[0].shape) == 2
            and form.inputs[0].shape[1] in (-1, self._width)
        )
        if not fits:
            found = ", ".join(f"{one.name} {one.datatype} {one.shape}" for one in form.inputs)
            raise Unanswered(
                f"the server's model takes {found or 'nothing'}; "
                f"one input of n x {self._width} FP32 or FP64 is needed"
            )
        return form.inputs[0]

    def _scores(self, answer: Answer) -> Any:
        try:
            name = chosen(self._model, [tensor.name for tensor in answer.outputs])
            tensor = next(tensor for tensor in answer.outputs if tensor.name == name)
            return scores_in(self._model, np.asarray(tensor.data).reshape(tensor.shape))
        except ValueError as error:
            raise Unanswered(f"the server answers nonsense: {error}") from error

    async def _exchange(self, method: str, url: str, content: bytes | None = None) -> bytes:
        """One request, one answer of status 200; raises Away, RowsRefused or Unanswered."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with self._session.request(
                method, url, data=content, headers=headers, allow_redirects=False
            ) as response:
                body = await _limited(response)
        except aiohttp.ClientConnectionError as error:
            raise Away(f"the server is not reached: {error}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise Unanswered(f"the server answers nonsense: {error!r}") from error
        if response.status == 200:
            return body
        said = f"the server said {response.status}: {_reason(body)}"
        if response.status in AWAY:
            raise Away(said)
        raise RowsRefused(said) if method == "POST" and response.status in THE_ROWS else Unanswered(said)


async def _limited(response: Any) -> bytes:
    """The body, unless it is larger than any answer can be."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES:
            response.close()
            raise Unanswered(f"the server answers with more than {ANSWER_BYTES >> 20} MB")
    return b"".join(parts)


def _decoded(content: bytes, shape: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unanswered(f"the server answers nonsense: {error}") from error


def _reason(body: bytes) -> str:
    """The `error` of the protocol, else the beginning of whatever it is."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = msgspec.json.decode(body)
        if isinstance(found, dict) and isinstance(found.get("error"), str):
            return str(found["error"])[:200]
    return body[:100].decode(errors="replace")
