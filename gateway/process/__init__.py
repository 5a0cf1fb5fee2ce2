"""The gateway as a process: listening, ready, draining, gone."""
