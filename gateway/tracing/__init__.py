"""Traces: the context of a request (W3C Trace Context), spans made of its hops, and their way to a collector (OTLP)."""
