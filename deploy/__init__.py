"""Pipelines ready to run."""
