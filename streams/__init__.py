"""Verbs: what happens to an event, in a pure core and at three edges (Kafka, archive, models)."""
