"""The client of S3 as the archive uses it: a store that does not answer, or lets nobody in, is trouble with a disk.

Told as DiskTrouble wherever the store is asked, so that nobody takes it for damage: commands end with one line, and
the archiver waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from botocore.exceptions import BotoCoreError
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem
from s3fs.core import _error_wrapper

from streams.archive.disk import DiskTrouble


@contextmanager
def away_named(bucket: str) -> Iterator[None]:
    """What the client says of a store that is away, or of credentials, is told as DiskTrouble."""
    try:
        yield
    except (BotoCoreError, PermissionError) as error:
        raise DiskTrouble(
            f"s3://{bucket}: {error}; nothing is lost, the archive waits and tries again: look at AWS_ENDPOINT_URL, "
            "the network and the credentials"
        ) from error


class S3(S3FileSystem):
    """Every request goes through `_call_s3`, or through a listing."""

    async def _call_s3(self, method: str, *words: Any, **more: Any) -> Any:
        with away_named(more.get("Bucket", "")):
            return await super()._call_s3(method, *words, **more)

    call_s3 = sync_wrapper(_call_s3)

    async def _fetch(self, path: str, last: int | None) -> tuple[bytes, str, int, float]:
        """An object or its last bytes, its version, its size and its time; s3fs asks for the size before it reads."""
        bucket, key, _ = self.split_path(path)
        part = {} if last is None else {"Range": f"bytes=-{last}"}

        async def ask() -> tuple[bytes, str, int, float]:
            answer = await self._call_s3("get_object", Bucket=bucket, Key=key, **part)
            async with answer["Body"] as body:
                data = await body.read()
            size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else len(data)
            return data, answer.get("ETag", ""), size, answer["LastModified"].timestamp()

        with away_named(bucket):
            return cast("tuple[bytes, str, int, float]", await _error_wrapper(ask, retries=self.retries))

    fetch = sync_wrapper(_fetch)

    async def _ls(self, path: str, detail: bool = False, **more: Any) -> list[Any]:  # noqa: FBT001, FBT002  as s3fs has it
        """A folder where nothing lies is not there; s3fs looks for it in a listing of all that lies beside it."""
        if "/" not in (folder := self._strip_protocol(path).rstrip("/")):
            return list(await super()._ls(path, detail=detail, **more))
        if not (found := await self._lsdir(folder, **more)):
            raise FileNotFoundError(path)
        return found if detail else sorted(one["name"] for one in found)

    async def _lsdir(self, path: str, *words: Any, **more: Any) -> Any:
        with away_named(path):
            return await super()._lsdir(path, *words, **more)
