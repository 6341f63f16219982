"""How each role meets Kafka: its consumer group, its instance id, its topics' cap."""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from schemas.blocks import TickBlock, encode_scores
from schemas.pipeline import Pipeline
from schemas.rights import group_of
from schemas.topics import DEAD_LETTER_ROOM, Topics
from streams.kafka.batch import Outgoing
from streams.kafka.clients import Cluster
from streams.kafka.edge import Edge

FETCH_BYTES = 1 << 20
NOT_LEGAL = re.compile(r"[^A-Za-z0-9._-]")
"""What a version may have and the name of a static member may not."""


def edge_of(
    role: str,
    pipeline: Pipeline,
    cluster: Cluster,
    *,
    model: str = "",
    number: int = 0,
    linger_ms: float = 0,
    consumer: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> Edge:
    """The edge of one role; `consumer` are settings and `changes` fields that this role sets otherwise.

    The group is `<pipeline>.<role>[.<model>[.<version>]]`, the static member `<group>.<number>`.
    """
    scores = Topics(pipeline.name).scores
    group = group_of(role, pipeline, model)
    instance = NOT_LEGAL.sub("-", f"{group}.{number}")
    settings: dict[str, Any] = cluster.consumer_settings(group, instance) | {
        "client.id": instance,
        "auto.offset.reset": "earliest",  # what is gone by retention is gone; where to start is asked for
        "max.partition.fetch.bytes": max(FETCH_BYTES, 2 * pipeline.record_cap_bytes),
    }
    producer: dict[str, Any] = cluster.producer_settings(linger_ms) | {
        "client.id": instance,
        "message.max.bytes": 2 * max(FETCH_BYTES, pipeline.record_cap_bytes + DEAD_LETTER_ROOM),
    }
    edge = Edge(
        role=role,
        consumer={**settings, **consumer, **pipeline.kafka.consumer},
        producer={**producer, **pipeline.kafka.producer},
        dead_letters=Topics(pipeline.name).dead_letters,
        dead_letter_cap=pipeline.record_cap_bytes + DEAD_LETTER_ROOM // 2,
        start=pipeline.start,
        ask_time=lambda: Outgoing(scores, encode_scores(TickBlock(0.0)), None, 0),
    )
    return replace(edge, **changes)
