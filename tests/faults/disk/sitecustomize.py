"""Loaded by Python at its start: a disk that fails in the archiver while a file of the fault's name is there.

`FAULT_DISK=folder`, and in it `full`, `eio`, `short`, `fsync` or `folder`: what the kernel would answer.
"""

import errno
import os
import stat
import sys
from pathlib import Path

_folder = os.environ.get("FAULT_DISK")

if _folder and "run" in sys.orig_argv and "archiver" in sys.orig_argv:
    _write, _fsync = os.write, os.fsync

    def _is(fault: str) -> bool:
        return (Path(_folder) / fault).exists()

    def _fail(number: int) -> None:
        raise OSError(number, os.strerror(number))

    def write(descriptor: int, data: bytes) -> int:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            if _is("eio"):
                _fail(errno.EIO)
            if _is("full") or (_is("short") and len(data) < 100):
                _fail(errno.ENOSPC)
            if _is("short"):
                return _write(descriptor, memoryview(data)[: len(data) // 2])
        return _write(descriptor, data)

    def fsync(descriptor: int) -> None:
        if _is("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync"):
            _fail(errno.EIO)
        _fsync(descriptor)

    os.write, os.fsync = write, fsync
