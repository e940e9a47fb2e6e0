"""Which users belong together."""
