"""Pages in a headless Chromium."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed, which opens the pages")
_WIDTH, _HEIGHT = 1280, 1600


def opened(address, folder, width=_WIDTH, height=_HEIGHT):
    """What a browser makes of a page, what it says in its console, and a photograph, ``[height, width, 3]``.

    The photograph stays in ``folder`` as ``page.png``.
    """
    options = ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "enable-logging=stderr", "dump-dom")
    options += (f"user-data-dir={folder / 'profile'}", "virtual-time-budget=20000", "hide-scrollbars")
    options += (f"screenshot={folder / 'page.png'}", f"window-size={width},{height}")
    command = [BROWSER, *(f"--{option}" for option in options), address]
    folder.mkdir(exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    with Image.open(folder / "page.png") as picture:
        return done.stdout, said, np.asarray(picture.convert("RGB"))


def is_blank(photograph):
    """Whether a photograph has one colour in most places and no more than a few others."""
    colours, counts = np.unique(photograph.reshape(-1, 3), axis=0, return_counts=True)
    return photograph.std() < 5 or counts.max() > 0.99 * counts.sum() or len(colours) < 50
