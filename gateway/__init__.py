"""A resilient reverse-proxy API gateway, described by one YAML file. Start reading at `handler.py`."""

__version__ = "0.1.0"
