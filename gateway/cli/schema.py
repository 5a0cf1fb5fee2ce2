"""`gateway schema`: the JSON Schema of the configuration."""

import argparse

from gateway.cli.output import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def perform(_: argparse.Namespace) -> int:
    from gateway.config import json_schema

    print_json(json_schema())
    return 0
