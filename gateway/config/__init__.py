"""One YAML file -> frozen models (`model.py`), or every complaint about it at once, each with its place."""

from gateway.config.complaints import Complaint, ConfigError
from gateway.config.loading import load
from gateway.config.model import Config
from gateway.config.schema import json_schema

__all__ = ["Complaint", "Config", "ConfigError", "json_schema", "load"]
