"""The edge to Kafka: a local broker, client settings, and the transport under the agents."""
