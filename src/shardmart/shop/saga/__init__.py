"""How events have their effects exactly once: lanes, the consumer, parking, replay, idempotency keys."""
