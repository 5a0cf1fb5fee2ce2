"""The command line: one file per command, each with `arguments(parser)` and `perform(options) -> int`."""
