"""Which route a request takes: one normal form of its target, and the most specific rule for it."""
