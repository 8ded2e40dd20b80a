"""Other servers than ours, for the scripts that record what they answer."""

import subprocess
import threading

PATIENCE_SECONDS = 20


def started(command, says):
    """Starts a server, which is returned once it has said that it takes connections. What it says later is dropped."""
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    patience = threading.Timer(PATIENCE_SECONDS, server.kill)
    patience.start()
    ready = any(says in line for line in server.stdout)
    patience.cancel()
    if not ready:
        raise RuntimeError(f"{command[0]} has ended with {server.wait()} and did not say {says!r}")
    threading.Thread(target=drop, args=(server.stdout,), daemon=True).start()
    return server


def drop(lines):
    for _ in lines:
        pass
