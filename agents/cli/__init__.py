"""The command line: `rendezvous`, or `python -m agents`."""

from agents.cli.program import main

__all__ = ["main"]
