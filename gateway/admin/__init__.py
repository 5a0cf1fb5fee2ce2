"""The admin listener: for operators and their tools, never on the public port."""
