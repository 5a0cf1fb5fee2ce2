"""What callers notice while targets misbehave, behind the gateway and behind its peers: `python -m bench.scenarios`."""
