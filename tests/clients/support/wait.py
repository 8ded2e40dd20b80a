"""Waiting for what comes about by itself: the one place that sleeps."""

import time

PATIENCE_SECONDS = 120
LOOK_EVERY_SECONDS = 0.05


def wait_until(what, holds, seconds=PATIENCE_SECONDS):
    """Returns when `holds()` is true; what it raises ends the wait."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not in {seconds} s: {what}"
        time.sleep(LOOK_EVERY_SECONDS)
