"""raw + scores -> decisions

Reads raw itself, so that a request is answered by its deadline although the router and every model are dead. Beside a
standby it reads decisions too: whoever of the two was first gave the answer, and repeats are given that one.
"""

from agents.desk import Desk
from agents.desk import attach as attach_desk
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.kafka.transport import BatchApp


def attach(app: BatchApp, pipeline: Pipeline, desk: Desk) -> None:
    """Put the rendezvous's agent on the app."""
    topics = Topics(pipeline.name)
    read = (topics.raw, topics.scores, *([topics.decisions] if pipeline.standby else []))
    attach_desk(app, "rendezvous", read, desk)
