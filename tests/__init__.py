"""Tests: unit, laws, and those on real Kafka (broker)."""
