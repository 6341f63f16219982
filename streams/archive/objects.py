"""One object of a store, put or deleted only while it is as it was seen.

A version is the store's own mark of what an object holds (S3: its ETag). Where a store has no such marks the version
is "", which means: whatever is there. None means: nothing is there. A store that is away is DiskTrouble
(`streams.archive.s3`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

REFUSALS = {409, 412}
"""How S3 answers a condition that does not hold, or a twin that is quicker; s3fs knows the former by words of AWS."""
GONE = "NoSuchKey"
"""And a condition on what is there, when nothing is; a bucket that is not there is another matter."""


class Found(NamedTuple):
    """What lies in an object, or its end only; `bytes` is the size of the whole."""

    data: bytes
    version: str
    bytes: int
    modified_s: float


def version(path: Path) -> str | None:
    """What the store says of the object now."""
    try:
        return str(_fs(path).info(_key(path)).get("ETag") or "")
    except FileNotFoundError:
        return None


def fetch(path: Path, last: int | None = None) -> Found:
    """All of an object, or its last bytes. Raises FileNotFoundError, OSError.

    S3 says all of it in one answer. Elsewhere the version comes first: what is read is at least as new.
    """
    if _conditional(path):
        return Found(*_fs(path).fetch(_key(path), last))
    version, about = str(_fs(path).info(_key(path)).get("ETag") or ""), path.stat()
    data = _fs(path).cat_file(_key(path), start=None if last is None else -last)
    return Found(bytes(data), version, about.st_size, about.st_mtime)


def put(path: Path, data: bytes, seen: str | None = "") -> str | None:
    """A small object; its version, or None when what is there is not what was seen. Raises OSError."""
    condition = {"mode": "create"} if seen is None else _as_seen(path, seen)
    answer = _unless_refused(lambda: _fs(path).pipe_file(_key(path), data, **condition) or {})
    return None if answer is None else str(answer.get("ETag") or "")


def put_file(file: Path, path: Path, seen: str | None) -> bool:
    """A local file goes up in one piece, for the condition goes with it; false as above. Raises OSError."""
    condition: dict[str, Any] = {"mode": "create"} if seen is None else _as_seen(path, seen)
    if _conditional(path):
        condition["chunksize"] = max(1, file.stat().st_size)
    return _unless_refused(lambda: _fs(path).put_file(str(file), _key(path), **condition) or True) is not None


def delete(path: Path, seen: str) -> bool:
    """An object that is as it was seen; false when it is not, or gone. Raises OSError."""
    if not (condition := _as_seen(path, seen)):
        return _unless_refused(lambda: _fs(path).rm_file(_key(path)) or True) is not None
    bucket, _, key = _key(path).partition("/")
    call = _fs(path).call_s3
    return _unless_refused(lambda: call("delete_object", Bucket=bucket, Key=key, **condition)) is not None


def _unless_refused(call: Callable[[], Any]) -> Any:
    """What the store answers; None when it refuses."""
    try:
        return call()
    except FileExistsError:
        return None
    except OSError as error:
        answer = getattr(error.__cause__, "response", {})
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status in REFUSALS or answer.get("Error", {}).get("Code") == GONE:
            return None
        raise


def _conditional(path: Path) -> bool:
    """Whether the store takes a condition on what is there: S3 does, through the client we know."""
    return hasattr(_fs(path), "call_s3")


def _as_seen(path: Path, seen: str) -> dict[str, Any]:
    return {"IfMatch": seen} if seen and _conditional(path) else {}


def _fs(path: Any) -> Any:
    return path.fs


def _key(path: Any) -> str:
    return str(path.path)
