"""Tests on real Kafka, with real processes."""
