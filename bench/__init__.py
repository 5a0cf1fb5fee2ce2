"""Benchmarks, one command each: `python -m bench.wire`, `bench.memory`, `bench.stack`. See README.md here."""
