#!/usr/bin/env python3
"""
Typical application work on a cluster of three nodes and four shards whose nodes are killed by SIGKILL in turn, by unmodified clients.

    QUORATE_BIN=target/debug/quorate python tests/clients/applications.py

Sessions, leaderboards, a rate limiter by script, a job queue by BLMOVE, a stream with a consumer group, and a lock; by redis-py in
threads (support/workers.py), then by ioredis (support/applications.mjs). Each client goes on to the next node when its connection
breaks. What was acknowledged has to be there in the end, what was refused must not be, what is unknown may be (support/ledger.py);
nothing is granted twice. Wants redis-py, and node with npm as job_libraries.py does. The last line is "N passed, M failed".
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from support import ledger, npm, workers
from support.nodes import ROOT, Nodes
from support.wait import PATIENCE_SECONDS, wait_until

SECONDS = int(os.environ.get("QUORATE_TEST_SECONDS", 15))
# What each application has to do before a node is killed, while it is dead, and when all are back.
STEP = {"sessions": 20, "reads": 20, "points": 20, "looks": 10, "grants": 20, "jobs": 10, "events": 10, "locks": 5}
STEP_SECONDS = 60


# A gateway gives up so soon that clients hear its errors; the shipped limits outlast an election.
IMPATIENT = {"# request_ms = 10000": "request_ms = 1500", "# txn_ms = 5000": "txn_ms = 1500"}


def impatient(text):
    assert "shards = 4\n" in text
    for shipped, wanted in IMPATIENT.items():
        assert shipped in text, f"{shipped} is not in the shipped config"
        text = text.replace(shipped, wanted)
    return text


def progress(run, when):
    before = dict(run.work)

    def holds():
        run.raise_failures()
        return all(run.work.get(what, 0) >= before.get(what, 0) + step for what, step in STEP.items())

    wait_until(f"progress {when}, from {before}", holds, STEP_SECONDS)


def through_kills(nodes, run):
    """Kills each node in turn while it leads a shard, at least once each, until the time is over; says how often."""
    end, kills = time.monotonic() + SECONDS, 0
    while kills < 3 or time.monotonic() < end:
        node = kills % 3 + 1
        progress(run, f"before node {node} is killed")
        wait_until(f"node {node} leads a shard", lambda: nodes.leads(node))
        nodes.kill(node)
        progress(run, f"without node {node}")
        nodes.start(node)
        nodes.wait_ready()
        kills += 1
    progress(run, "with all nodes")
    without_majority(nodes, run)
    return kills


def without_majority(nodes, run):
    """Kills two nodes at once, so that requests fail, and some of them stay open until the two are back."""
    wait_until("node 3 leads a shard", lambda: nodes.leads(3))
    before = dict(run.outcomes)

    def errors():
        run.raise_failures()
        grown = {word for word, count in run.outcomes.items() if count > before.get(word, 0)}
        return "UNKNOWN" in grown and grown & {"CLUSTERDOWN", "TRYAGAIN"}

    for node in (1, 2):
        nodes.kill(node)
    wait_until("requests fail for want of a majority", errors, STEP_SECONDS)
    for node in (1, 2):
        nodes.start(node)
    nodes.wait_ready()
    progress(run, "after a majority was gone")


def judge(nodes, run, kind):
    """Ends a run that has worked all the time, and compares."""
    told = run.finish()
    print(f"  {kind}: {dict(sorted(run.work.items()))}; requests: {dict(run.outcomes)}")
    ran, pushed = told["jobs"]["ran"], told["jobs"]["pushed"]
    print(f"  {kind}: {len(pushed)} jobs, {sum(count > 1 for count in ran.values())} ran more than once")
    # Kills that no request notices show nothing; nor does a lock that nobody has too long.
    assert run.outcomes.get("broken", 0) > 0, f"no request was open when its node was killed: {run.outcomes}"
    assert run.work.get("overstays", 0) > 0, f"nobody had a lock too long: {run.work}"
    ledger.check(nodes.ports, told)


class RedisPy:
    def __init__(self, nodes):
        self.run = workers.Run(nodes.ports)
        self.work, self.outcomes = self.run.work, self.run.outcomes
        workers.prepare(self.run)
        workers.start(self.run)

    def raise_failures(self):
        for error in self.run.failures:
            raise error

    def finish(self):
        self.run.stop.set()
        end = time.monotonic() + PATIENCE_SECONDS
        for thread in self.run.threads:
            thread.join(max(0, end - time.monotonic()))
            self.raise_failures()
            assert not thread.is_alive(), f"{thread.name} does not end"
        return self.run.ledger()

    def close(self):
        self.run.failed.set()


class IoRedis:
    """A process that writes what it has done in lines of JSON, and its ledger in the last one when its input ends."""

    def __init__(self, nodes, folder):
        node, env = npm.install(folder, "ioredis@5")
        self.work, self.outcomes, self.ledger = {}, {}, None
        command = [node, ROOT / "tests/clients/support/applications.mjs", *map(str, nodes.ports)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=folder, env=env, stdin=pipe, stdout=pipe, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            told = json.loads(line)
            self.work, self.outcomes = told["work"], told["outcomes"]
            self.ledger = told.get("ledger")

    def raise_failures(self):
        assert self.process.poll() in (None, 0), f"node ended with {self.process.returncode}; what it said is above"

    def finish(self):
        self.process.stdin.close()
        self.reader.join(PATIENCE_SECONDS)
        assert self.process.wait(10) == 0, f"node ended with {self.process.returncode}; what it said is above"
        return self.ledger

    def close(self):
        self.process.kill()
        self.process.wait()


def main():
    passed = failed = 0
    for kind, begin in (("redis-py", lambda nodes, _: RedisPy(nodes)), ("ioredis", IoRedis)):
        with tempfile.TemporaryDirectory() as name:
            nodes, run = Nodes(pathlib.Path(name), impatient), None
            begun = time.monotonic()
            try:
                run = begin(nodes, pathlib.Path(name))
                kills = through_kills(nodes, run)
                judge(nodes, run, kind)
                print(f"{kind} ok, {kills} kills, {time.monotonic() - begun:.0f} s")
                passed += 1
            except Exception:
                traceback.print_exc()
                print(f"{kind} FAILED; {run and dict(run.work)}; requests: {run and dict(run.outcomes)}")
                failed += 1
            finally:
                if run:
                    run.close()
                nodes.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
