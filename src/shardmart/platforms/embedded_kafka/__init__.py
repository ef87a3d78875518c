"""Kafka as processes of this machine: its programs, its brokers."""
