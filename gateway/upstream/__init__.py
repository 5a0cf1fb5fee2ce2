"""The addresses behind a route, and which of them takes the next try."""
