"""What is wrong with this gateway, for how long, and telling somebody of it without Prometheus and Alertmanager."""
