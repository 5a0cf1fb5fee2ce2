"""What happens when an upstream fails: judging, retrying within a budget, breaking the circuit, falling back."""
