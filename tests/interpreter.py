"""A fresh interpreter with the package that is tested here, for what this process has imported is no evidence."""

import os
import subprocess
import sys
from pathlib import Path

import recbole_perpeft

ROOT = Path(recbole_perpeft.__file__).parents[1]


def in_a_fresh_interpreter(code, folder=None):
    """What ``code``, run in ``folder``, prints there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
