"""Which tokens mark a probe, for a role that meets them: all there are when it begins, and each new one after."""

import threading

from confluent_kafka import KafkaException

from schemas.pipeline import Pipeline
from schemas.probes import Tokens
from schemas.topics import Topics
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import AWAY, CALM, LOOK_S


class TokenWatch:
    """Follows `probes` in a thread of its own: every member of a role has to read all of it."""

    def __init__(self, pipeline: Pipeline, cluster: Cluster) -> None:
        self.tokens = Tokens()
        self.failed: Exception | None = None
        self._topic = Topics(pipeline.name).probes
        self._cluster = cluster
        self._read = threading.Event()
        self._following = False

    def begin(self) -> None:
        """Read what there is now; from then on follow. Blocks; raises what keeps it from being read."""
        if not self._following:
            self._following = True
            threading.Thread(target=self._follow, daemon=True).start()
        self._read.wait()
        if self.failed is not None:
            raise self.failed

    def _follow(self) -> None:
        try:
            self._go_on()
        except Exception as error:
            self.failed = error  # told at the next `begin`; a probe is an ordinary request until then
        finally:
            self._read.set()

    def _go_on(self) -> None:
        with TopicReader(self._cluster, self._topic, CALM) as reader:
            ends = reader.bounds()
            for message in reader.to_end():
                self.tokens.take(message.value())
            self._read.set()
            reader.start({number: end for number, (_, end) in ends.items()})
            while True:
                try:
                    messages = reader.poll(LOOK_S)
                except KafkaException as error:
                    if error.args[0].code() not in AWAY and not error.args[0].retriable():
                        raise
                    continue
                for message in messages:
                    self.tokens.take(message.value())
