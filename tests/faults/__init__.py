"""Faults, for real: each row of the table is a test that breaks something while requests come."""
