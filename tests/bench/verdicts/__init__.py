"""Verdicts on seeded scenarios with known cause and onset: right cause, delay, false alarms, cost."""
