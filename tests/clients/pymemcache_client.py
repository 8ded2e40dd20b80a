#!/usr/bin/env python3
"""Unmodified pymemcache 4 against a three-node Quorate that this script starts, next to redis-py on the same keys.

    QUORATE_BIN=target/debug/quorate python tests/clients/pymemcache_client.py

Starts `quorate dev --nodes 3 --shards 4` on free ports and runs every test on each node. The last line is "N passed, M failed"; the
exit code is 1 if M > 0. Wants `pymemcache` and `redis`.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import traceback

import redis
from pymemcache import serde
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.retrying import RetryingClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError, MemcacheUnknownCommandError
from support.ports import is_free
from support.wait import wait_until

NODES = 3
READY_SECONDS = 60
STOP_SECONDS = 30
THREADS = 4
INCREMENTS = 50


def free_base_port():
    for _ in range(200):
        base = random.randrange(10_000, 32_000)
        if all(is_free(base + kind + node) for kind in (0, 100, 200, 300) for node in range(NODES)):
            return base
    raise RuntimeError("found no free ports")


class Cluster:
    def __init__(self, binary, folder):
        self.base = free_base_port()
        command = [binary, "dev", "--base-port", str(self.base), "--data-dir", os.path.join(folder, "data")]
        command += ["--nodes", str(NODES), "--shards", "4"]
        print("+", *command, flush=True)
        self.log = open(os.path.join(folder, "log"), "w+b")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def wait_until_ready(self):
        wait_until("the nodes are ready", self.is_ready, READY_SECONDS)

    def is_ready(self):
        assert self.process.poll() is None, f"it has ended: {self.said().decode(errors='replace')}"
        return b"\nready" in b"\n" + self.said()

    def said(self):
        with open(self.log.name, "rb") as log:
            return log.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=STOP_SECONDS)
        assert code == 0, f"it left with {code}: {self.said().decode(errors='replace')}"


class Node:
    """One node's two faces, and the others'."""

    def __init__(self, base, number):
        self.address = ("127.0.0.1", base + 300 + number)
        self.all = [("127.0.0.1", base + 300 + n) for n in range(NODES)]
        self.redis = redis.Redis(port=base + (number + 1) % NODES, decode_responses=False)

    def client(self, **options):
        return Client(self.address, default_noreply=False, timeout=20, connect_timeout=20, **options)


TESTS = []


def test(function):
    TESTS.append(function)
    return function


@test
def base_client(node):
    c = node.client()
    assert c.flush_all() is True
    assert c.set("a", b"1") and c.get("a") == b"1" and c.get("none") is None and c.get("none", 5) == 5
    assert c.add("a", b"2") is False and c.add("b", b"2") is True
    assert c.replace("none", b"2") is False and c.replace("a", b"10") is True
    assert c.append("a", b"0") and c.prepend("a", b"1") and c.get("a") == b"1100"
    assert c.incr("a", 5) == 1105 and c.decr("a", 2000) == 0 and c.incr("none", 1) is None
    assert c.touch("b", 100) is True and c.touch("none", 100) is False
    assert c.get_many(["a", "b", "none"]) == {"a": b"0   ", "b": b"2"}
    assert c.set_many({f"many{n}": str(n).encode() for n in range(100)}) == []
    assert c.get_many([f"many{n}" for n in range(100)]) == {f"many{n}": str(n).encode() for n in range(100)}
    assert c.delete("a") is True and c.delete("a") is False
    assert c.delete_many([f"many{n}" for n in range(100)]) is True
    assert c.raw_command("gat 50 b", b"END\r\n") == b"VALUE b 0 1\r\n2\r\n"
    assert c.version().startswith(b"1.6.18")
    stats = c.stats()
    assert stats[b"curr_items"] == 1 and stats[b"version"].startswith(b"1.6"), stats
    assert c.stats("settings")[b"cas_enabled"] == b"yes"
    assert c.cache_memlimit(64) is True
    c.quit()


@test
def noreply_is_not_answered_and_done(node):
    c = Client(node.address, default_noreply=True, timeout=20)
    c.set("quiet", b"1")
    c.incr("quiet", 1, noreply=True)
    c.append("quiet", b"0")
    c.add("quiet", b"no")
    c.delete("none")
    c.touch("quiet", 100)
    assert c.get("quiet") == b"20"
    c.delete("quiet")
    assert c.get("quiet") is None
    c.close()


@test
def cas_tells_who_was_first(node):
    c, other = node.client(), Client(node.all[0], default_noreply=False)
    c.delete("k")
    assert c.cas("k", b"v", 1) is None
    c.set("k", b"v")
    value, number = c.gets("k")
    assert value == b"v" and c.gets("none") == (None, None)
    assert other.cas("k", b"w", number) is True
    assert c.cas("k", b"x", number) is False
    assert c.get("k") == b"w"
    assert set(c.gets_many(["k", "none"])) == {"k"}


@test
def threads_that_compare_lose_no_update(node):
    node.client().set("sum", b"0")
    failed = []

    def add(address):
        try:
            c = Client(address, default_noreply=False, timeout=30)
            for _ in range(INCREMENTS):
                while True:
                    value, number = c.gets("sum")
                    if c.cas("sum", str(int(value) + 1).encode(), number):
                        break
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=add, args=(node.all[n % NODES],)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert node.client().get("sum") == str(THREADS * INCREMENTS).encode()


@test
def serializers_keep_types(node):
    for each in (serde.pickle_serde, serde.compressed_serde):
        c = node.client(serde=each)
        for value in (b"bytes", "text é", 7, 2**70, {"a": [1, 2]}, ["x"] * 1000, "long " * 1000):
            assert c.set("typed", value)
            got = c.get("typed")
            assert got == value and type(got) is type(value), (value, got)
            assert c.get_many(["typed"]) == {"typed": value}

    class Json:
        def serialize(self, key, value):
            return json.dumps(value).encode(), 3_000_000_000

        def deserialize(self, key, value, flags):
            assert flags == 3_000_000_000
            return json.loads(value)

    c = node.client(serde=Json())
    c.set("typed", {"a": None})
    assert c.get("typed") == {"a": None}


@test
def hash_and_pooled_clients_spread_over_nodes(node):
    for c in (HashClient(node.all, default_noreply=False, use_pooling=True), PooledClient(node.address, default_noreply=False)):
        c.set_many({f"spread{n}": str(n).encode() for n in range(50)})
        assert c.get_many([f"spread{n}" for n in range(50)]) == {f"spread{n}": str(n).encode() for n in range(50)}
        assert c.delete("spread0") and c.get("spread0") is None
        c.close()
    # All nodes hold all keys, whichever a client's own hashing has chosen.
    assert node.client().get("spread1") == b"1"
    c = RetryingClient(node.client(), attempts=2)
    assert c.set("retried", b"1") and c.get("retried") == b"1"


@test
def both_kinds_of_clients_share_keys(node):
    c = node.client()
    node.redis.set("shared", "from redis", ex=100)
    assert c.get("shared") == b"from redis"
    c.set("shared", b"from memcached", expire=50)
    assert node.redis.get("shared") == b"from memcached" and 0 < node.redis.ttl("shared") <= 50
    node.redis.rpush("list", "x")
    try:
        c.get("list")
        raise AssertionError("a list was read")
    except MemcacheServerError as error:
        assert "list" in str(error)
    node.redis.delete("list")
    assert c.flush_all() and node.redis.dbsize() == 0


@test
def expiry(node):
    c = node.client()
    c.set("gone", b"x", expire=-1)
    assert c.get("gone") is None
    c.set("short", b"x", expire=1)
    wait_until("it expires", lambda: c.get("short") is None, 10)


@test
def meta_commands(node):
    c = node.client()

    def raw(command, end=b"\r\n"):
        return c.raw_command(command, end)

    c.set("m", b"value", flags=5)
    assert raw("mg m s f t") == b"HD s5 f5 t-1"
    assert raw("mg m v k", b"value\r\n") == b"VA 5 km\r\n"
    assert raw(b"ms m 3 T60 c\r\nnew").startswith(b"HD c")
    assert raw("md m I") == b"HD"
    assert raw("mg m") == b"HD X W" and raw("mg m") == b"HD Z X"
    assert raw("md m") == b"HD" and raw("mg m") == b"EN"
    assert raw("ma n N0 J5 t") == b"HD t-1" and raw("mn") == b"MN"
    node.redis.delete("n")


@test
def errors_are_pymemcaches(node):
    c = node.client()
    c.set("text", b"x")
    for wrong, kind in ((lambda: c.incr("text", 1), MemcacheClientError), (lambda: c.raw_command("nonsense"), MemcacheUnknownCommandError)):
        try:
            answer = wrong()
            assert kind is MemcacheUnknownCommandError and answer == b"ERROR", answer
        except kind:
            pass
    for mebibytes in (5, 65):
        assert c.set("big", b"x" * (1 << 20)) and len(c.get("big")) == 1 << 20
        try:
            c.set("big", b"x" * (mebibytes << 20))
            raise AssertionError(f"{mebibytes} MiB were taken")
        except MemcacheServerError as error:
            assert "too large" in str(error)
        c = node.client()
    c = node.client()
    assert c.get("big") is None, "as in memcached, the old value is gone"


def main():
    binary = os.environ.get("QUORATE_BIN", "target/debug/quorate")
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(binary, folder)
        try:
            cluster.wait_until_ready()
            for number in range(NODES):
                for function in TESTS:
                    try:
                        function(Node(cluster.base, number))
                        passed += 1
                    except Exception:
                        failed += 1
                        print(f"FAILED {function.__name__} on node {number + 1}")
                        traceback.print_exc(file=sys.stdout)
            cluster.stop()
        finally:
            if cluster.process.poll() is None:
                cluster.process.kill()
                cluster.process.wait()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
