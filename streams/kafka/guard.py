"""Between a program and the broker it started: when the program dies, however, the broker ends.

Run as `python guard.py JAVA ARGUMENTS...`, from any folder; stdin is a pipe whose other end the program holds.
"""

import os
import signal
import subprocess
import sys
import threading

STOP_S = 10


def main(command: list[str]) -> int:
    """Run the command until it ends, or until stdin does."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end(*_: object) -> None:
        child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threading.Thread(target=_watch, args=(child,), daemon=True).start()
    return child.wait()


def _watch(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 4096):
        pass
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
