"""Frozen foundation models, and what adapts them to each user group."""
