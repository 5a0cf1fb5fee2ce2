"""Who is calling (providers), and whether they may (permissions)."""
