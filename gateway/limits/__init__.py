"""How often a caller may ask: rate limits, counted in this process or in Redis."""
