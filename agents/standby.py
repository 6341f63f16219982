"""raw + scores + decisions -> decisions that the rendezvous owes

A second rendezvous in a group of its own: no failover of a consumer group is as short as a budget. It answers
what the owner should have answered and has not, a grace later. Two final records of one ticket are harmless:
every reader takes the first.
"""

from agents.desk import Desk
from agents.desk import attach as attach_desk
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.kafka.transport import BatchApp


def attach(app: BatchApp, pipeline: Pipeline, desk: Desk) -> None:
    """Put the standby's agent on the app."""
    topics = Topics(pipeline.name)
    attach_desk(app, "standby", (topics.raw, topics.scores, topics.decisions), desk)
