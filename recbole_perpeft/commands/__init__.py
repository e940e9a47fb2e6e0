"""What ``python -m recbole_perpeft`` does beside a single run."""
