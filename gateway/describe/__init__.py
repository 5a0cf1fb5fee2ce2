"""The configuration in words, for the command line and the admin API alike."""
