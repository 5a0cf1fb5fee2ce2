"""What is kept of requests with an idempotency key, and where. The layer is `gateway/resilience/idempotency.py`."""
