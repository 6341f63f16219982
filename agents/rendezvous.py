"""raw + scores -> decisions

Reads raw itself, so that a request is answered by its deadline although the router and every model are dead.
"""

from agents.desk import Desk
from agents.desk import attach as attach_desk
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.kafka.transport import BatchApp


def attach(app: BatchApp, pipeline: Pipeline, desk: Desk) -> None:
    """Put the rendezvous's agent on the app."""
    topics = Topics(pipeline.name)
    attach_desk(app, "rendezvous", (topics.raw, topics.scores), desk)
