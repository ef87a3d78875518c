"""The event log on Kafka: a topic with one partition for each lane, filled from the outbox by the relay."""
