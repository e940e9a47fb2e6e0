"""Pages in a browser: Chromium, where one is installed."""

import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed, which opens the pages")


def opened(address, folder, *more):
    """What a browser makes of a page, and what it says in its console; ``more`` are options of the browser's."""
    options = ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "enable-logging=stderr", "dump-dom")
    options += (f"user-data-dir={folder}", "virtual-time-budget=20000", *more)
    command = [BROWSER, *(f"--{option}" for option in options), address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
