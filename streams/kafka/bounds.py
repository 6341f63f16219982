"""Where a partition begins and ends, asked for until the broker can say.

A topic is told of before its partitions are led, and a broker that comes back does not lead them yet: what it answers
then passes by itself within moments, and a client does not count it as worth another try.
"""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

UNLED = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)
AGAIN_S = 0.1


def bounds_of(client: Consumer, place: TopicPartition, within_s: float) -> tuple[int, int]:
    """First and next offset of a partition, as of now; blocks. Raises KafkaException when nobody says within this."""
    end_s = time.monotonic() + within_s
    while True:
        try:
            return client.get_watermark_offsets(place, timeout=within_s, cached=False)
        except KafkaException as error:
            if error.args[0].code() not in UNLED or time.monotonic() + AGAIN_S > end_s:
                raise
        time.sleep(AGAIN_S)
