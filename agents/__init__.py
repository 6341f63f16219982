"""Actors: one file per role; `head -1 agents/*.py` reads as the road of an event."""
