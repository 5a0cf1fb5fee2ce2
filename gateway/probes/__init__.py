"""Synthetic requests: routes are watched through the gateway itself, even when nobody calls them."""
