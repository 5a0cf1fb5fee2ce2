"""What the gateway writes: a line for each request, and messages of its own."""
