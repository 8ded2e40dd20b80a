#!/usr/bin/env python3
"""Unmodified redis-py 5, not in cluster mode, against a three-node Quorate that this script starts.

    QUORATE_BIN=target/debug/quorate python tests/clients/redis_py.py

Starts `quorate dev --nodes 3 --shards 4` on free ports, runs every test on each node in RESP2 and RESP3, stops the
cluster by SIGTERM and asserts that it leaves with 0. The last line is "N passed, M failed"; the exit code is 1 if M > 0.

The assertions hold for Redis 7.0 too: a single Redis server behind three ports passes them.
"""

import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import redis
import redis.connection
from redis.cache import CacheConfig
from redis.exceptions import ExecAbortError, ResponseError, WatchError
from support.ports import is_free

NODES = 3
SHARDS = 4
READY_SECONDS = 60
STOP_SECONDS = 30
REPLY_SECONDS = 20
THREADS = 4
INCREMENTS = 100
WATCH_SECONDS = 90  # for THREADS * INCREMENTS contended transactions
# Enough names that each of four shards holds some of them.
SPREAD = [f"spread:{i}" for i in range(24)]


# ------------------------------------------------------------------------------------------------------- the cluster


def free_base_port():
    """A port P so that the client, peer and admin ports of all nodes (P, P+100, P+200, …) are free."""
    for _ in range(200):
        # Below the kernel's range for outgoing connections (32768 and up).
        base = random.randrange(10_000, 32_000)
        if all(is_free(base + kind + node) for kind in (0, 100, 200) for node in range(NODES)):
            return base
    raise RuntimeError("found no free ports")


class Cluster:
    def __init__(self, binary, folder):
        self.base = free_base_port()
        self.log_path = os.path.join(folder, "stderr.log")
        self.lines = queue.Queue()
        self.seen = []
        command = [binary, "dev", "--base-port", str(self.base), "--data-dir", os.path.join(folder, "data")]
        command += ["--nodes", str(NODES), "--shards", str(SHARDS)]
        print("+", *command, flush=True)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, errors="replace"
            )
        threading.Thread(target=self._read_lines, daemon=True).start()

    def _read_lines(self):
        # Also after the ready line: a full pipe would stall the cluster.
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"no ready line within {READY_SECONDS} s; stdout so far: {self.seen}") from None
            if line is None:
                raise RuntimeError(f"it stopped with {self.process.wait()} before it was ready; stdout: {self.seen}")
            if line.startswith("ready"):
                print(line, flush=True)
                return
            self.seen.append(line)

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running {STOP_SECONDS} s after SIGTERM") from None

    def kill_if_running(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def show_log(self):
        with open(self.log_path, errors="replace") as log:
            tail = log.readlines()[-60:]
        if tail:
            print("--- the end of the cluster's stderr:\n" + "".join(tail), end="", flush=True)

    def client(self, node, protocol=2, **options):
        return redis.Redis(
            host="127.0.0.1",
            port=self.base + node,
            protocol=protocol,
            decode_responses=True,
            socket_timeout=REPLY_SECONDS,
            socket_connect_timeout=REPLY_SECONDS,
            **options,
        )


# ----------------------------------------------------------------------------------------------------------- helpers


def equal(got, wanted):
    assert got == wanted, f"wanted {wanted!r}, got {got!r}"


def raises(kind, text, call):
    try:
        got = call()
    except kind as error:
        # redis-py takes a leading ERR off the text.
        assert text in str(error), f"wanted an error with {text!r}, got {error!r}"
        return
    raise AssertionError(f"wanted {kind.__name__} with {text!r}, got {got!r}")


def in_threads(workers):
    """Runs all workers at once; the first exception of any is raised here."""
    errors = queue.Queue()

    def guarded(worker):
        try:
            worker()
        except BaseException as error:  # handed to the main thread
            errors.put(error)

    threads = [threading.Thread(target=guarded, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + WATCH_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if not errors.empty():
        raise errors.get()
    assert not any(thread.is_alive() for thread in threads), f"workers still run after {WATCH_SECONDS} s"


def increment_by_transaction(r, key):
    """redis-py's own retry loop around WATCH."""

    def body(pipe):
        value = int(pipe.get(key) or 0)
        pipe.multi()
        pipe.set(key, value + 1)

    for _ in range(INCREMENTS):
        r.transaction(body, key)


def increment_by_watch(r, key):
    """The loop that redis-py's documentation shows, over two keys that may be on different shards."""
    with r.pipeline() as pipe:
        for _ in range(INCREMENTS):
            while True:
                try:
                    pipe.watch(key)
                    value = int(pipe.get(key) or 0)
                    pipe.multi()
                    pipe.set(key, value + 1)
                    pipe.incr(f"{key}:times")
                    pipe.execute()
                    break
                except WatchError:
                    continue


# ---------------------------------------------------------------------------------- the tests: on each node, protocol


def test_basic_commands(cluster, r, node, protocol):
    equal(r.ping(), True)
    equal(r.echo("hello"), "hello")
    equal(r.set("a", "1"), True)
    equal(r.get("a"), "1")
    equal(r.get("absent"), None)
    equal(r.set("a", "2", nx=True), None)
    equal(r.set("a", "2", xx=True, get=True), "1")
    equal([r.incr("a"), r.incrby("a", 10), r.decr("a"), r.decrby("a", 2)], [3, 13, 12, 10])
    equal(r.incrbyfloat("a", 0.5), 10.5)
    equal([r.append("s", "abc"), r.append("s", "def"), r.strlen("s")], [3, 6, 6])
    equal([r.getrange("s", 1, 3), r.setrange("s", 2, "XY"), r.get("s")], ["bcd", 6, "abXYef"])
    equal([r.getdel("s"), r.exists("s"), r.type("a"), r.type("s")], ["abXYef", 0, "string", "none"])
    equal(r.mset({key: str(i) for i, key in enumerate(SPREAD)}), True)
    equal(r.mget(SPREAD + ["absent"]), [str(i) for i in range(len(SPREAD))] + [None])
    equal(r.exists(*SPREAD, SPREAD[0], "absent"), len(SPREAD) + 1)
    equal(r.msetnx({SPREAD[0]: "x", "fresh": "x"}), False)
    equal(r.exists("fresh"), 0)
    equal([r.rename(SPREAD[0], "moved"), r.get("moved"), r.exists(SPREAD[0])], [True, "0", 0])
    equal(r.delete(*SPREAD), len(SPREAD) - 1)
    equal(r.dbsize(), 2)  # a, moved
    raises(ResponseError, "no such key", lambda: r.rename("absent", "b"))
    raises(ResponseError, "value is not an integer or out of range", lambda: r.incr("a"))
    raises(ResponseError, "unknown command 'NOSUCH'", lambda: r.execute_command("NOSUCH", "x"))
    raises(ResponseError, "wrong number of arguments for 'get' command", lambda: r.execute_command("GET"))


def test_waiting_scripts_and_channels_in_application_work(cluster, r, node, protocol):
    elsewhere = cluster.client((node + 1) % NODES, protocol)
    # A job that a worker waits for, into its own list on another shard.
    waited = []
    worker = threading.Thread(target=lambda: waited.append(elsewhere.blmove("jobs", "mine", REPLY_SECONDS, "LEFT", "RIGHT")))
    worker.start()
    equal(r.rpush("jobs", "job1"), 1)
    worker.join(REPLY_SECONDS)
    equal([waited, r.lrange("mine", 0, -1), list(r.blpop(["jobs", "mine"], 1))], [["job1"], ["job1"], ["mine", "job1"]])
    equal([r.blpop("jobs", 0.05), r.bzpopmin("none", 0.05)], [None, None])
    # redis-py's own lock is made of scripts.
    with r.lock("lock", timeout=30) as lock:
        equal(elsewhere.lock("lock", timeout=30, blocking=False).acquire(), False)
        equal([lock.extend(10), lock.owned(), r.pttl("lock") > 30000], [True, True, True])
    equal(elsewhere.exists("lock"), 0)
    # A rate limiter, known by its name, alone and in a pipeline.
    limiter = r.register_script("local n = redis.call('incr', KEYS[1]) if n == 1 then redis.call('expire', KEYS[1], ARGV[1]) end return n <= tonumber(ARGV[2])")
    equal([limiter(keys=["rate"], args=[60, 3]) for _ in range(5)], [1, 1, 1, None, None])
    with elsewhere.pipeline(transaction=True) as pipe:
        limiter(keys=["rate:other"], args=[60, 1], client=pipe)
        limiter(keys=["rate:other"], args=[60, 1], client=pipe)
        equal(pipe.get("rate:other").execute(), [1, None, "2"])
    # A message from another node.
    channel = r.pubsub(ignore_subscribe_messages=False)
    channel.subscribe("news"), channel.psubscribe("n*")
    equal([channel.get_message(timeout=REPLY_SECONDS)["type"] for _ in range(2)], ["subscribe", "psubscribe"])
    equal(elsewhere.publish("news", "hello"), 2)
    heard = [channel.get_message(timeout=REPLY_SECONDS) for _ in range(2)]
    equal([(m["type"], m["channel"], m["data"]) for m in heard], [("message", "news", "hello"), ("pmessage", "news", "hello")])
    channel.close(), elsewhere.close()


def test_types_in_application_work(cluster, r, node, protocol):
    # A session: a hash that expires.
    equal(r.hset("session:1", mapping={"user": "alice", "visits": 1}), 2)
    equal([r.expire("session:1", 100), r.hincrby("session:1", "visits", 2), r.ttl("session:1") > 90], [True, 3, True])
    equal(r.hgetall("session:1"), {"user": "alice", "visits": "3"})
    equal([r.hmget("session:1", "user", "none"), r.hdel("session:1", "user"), r.hlen("session:1")], [["alice", None], 1, 1])
    # A leaderboard, small and large.
    equal(r.zadd("board", {f"player{n}": n * 1.5 for n in range(500)}), 500)
    equal(r.zincrby("board", 10000, "player7"), 10010.5)
    top = r.zrevrange("board", 0, 1, withscores=True)  # pairs are lists in RESP3
    equal([tuple(pair) for pair in top], [("player7", 10010.5), ("player499", 748.5)])
    equal([r.zrevrank("board", "player7"), r.zrank("board", "player0"), r.zscore("board", "none")], [0, 0, None])
    equal(r.zrangebyscore("board", "(3", 6), ["player3", "player4"])
    # A queue whose jobs move to a worker's list on another shard, and a log of what is done, in one transaction.
    equal(r.rpush("queue", *[f"job{n}" for n in range(300)]), 300)
    taken = [r.lmove("queue", f"worker:{n % 3}", "LEFT", "RIGHT") for n in range(6)]
    equal(taken, [f"job{n}" for n in range(6)])
    with r.pipeline(transaction=True) as pipe:
        pipe.lrem("worker:1", 1, "job1").sadd("done", "job1").zadd("done:at", {"job1": 5}).llen("queue")
        equal(pipe.execute(), [1, 1, 1, 294])
    equal([r.lrange(f"worker:{n}", 0, -1) for n in range(3)], [["job0", "job3"], ["job4"], ["job2", "job5"]])
    # Tags, over shards.
    r.sadd("tag:a", "x", "y", "z"), r.sadd("tag:b", "y", "z"), r.sadd("tag:c", "z")
    equal([set(r.sinter("tag:a", "tag:b")), set(r.sdiff("tag:a", "tag:b", "tag:c"))], [{"y", "z"}, {"x"}])
    equal([r.sunionstore("tag:all", "tag:b", "tag:c"), set(r.smembers("tag:all"))], [2, {"y", "z"}])
    equal(tuple(r.zunion({"board": 1, "done:at": 2}, withscores=True)[-1]), ("player7", 10010.5))
    # Pages.
    equal(dict(r.hscan_iter("session:1")), {"visits": "3"})
    equal(len(dict(r.zscan_iter("board", count=50))), 500)
    equal(set(r.sscan_iter("tag:a")), {"x", "y", "z"})
    raises(ResponseError, "WRONGTYPE", lambda: r.get("board"))
    raises(ResponseError, "not supported", lambda: r.execute_command("FAILOVER"))


def test_copies_at_the_client_follow_writes_on_other_nodes(cluster, r, node, protocol):
    if protocol == 2:
        return
    # It wants a server that says it is 7.4.
    redis.connection.CacheProxyConnection.MIN_ALLOWED_VERSION = "7.0.0"
    other = cluster.client((node + 1) % NODES)
    reader = cluster.client(node, protocol=3, cache_config=CacheConfig())
    try:
        other.hset("hash", "field", "1")
        for value in ("1", "2", "3"):
            other.set("copied", value)
            deadline = time.monotonic() + 5
            while reader.get("copied") != value:
                assert time.monotonic() < deadline, "an old copy is relied on"
            equal(reader.get_cache().size > 0, True)
        equal(reader.hgetall("hash"), {"field": "1"})
        other.flushall()
        deadline = time.monotonic() + 5
        while reader.get("copied") is not None or reader.hgetall("hash"):
            assert time.monotonic() < deadline, "old copies are relied on"
    finally:
        reader.close()
        other.close()


def test_binary_values(cluster, r, node, protocol):
    raw = redis.Redis(port=cluster.base + node, protocol=protocol, socket_timeout=REPLY_SECONDS)
    key, value = b"\x00\r\n\xff", bytes(range(256)) * 200
    equal(raw.set(key, value), True)
    equal(raw.get(key), value)
    equal(raw.set(b"", b""), True)
    equal(raw.mget(key, b"", b"absent"), [value, b"", None])
    raw.close()


def test_protocol_is_the_one_asked_for(cluster, r, node, protocol):
    hello = r.execute_command("HELLO", protocol)
    if protocol == 2:
        hello = dict(zip(hello[::2], hello[1::2]))
    equal(hello["proto"], protocol)
    raises(ResponseError, "NOPROTO", lambda: r.execute_command("HELLO", 9))
    with cluster.client(node, protocol, client_name="quorate-test") as named:
        equal(named.client_getname(), "quorate-test")


def test_a_write_is_read_on_every_node(cluster, r, node, protocol):
    others = [cluster.client(other, protocol) for other in range(NODES)]
    for i in range(20):
        r.set(f"seen:{i}", i)
        equal([other.get(f"seen:{i}") for other in others], [str(i)] * NODES)
    for other in others:
        other.close()


def test_pipeline_keeps_order(cluster, r, node, protocol):
    with r.pipeline(transaction=False) as pipe:
        wanted = []
        for i in range(250):
            pipe.set(f"p:{i % 40}", i).get(f"p:{i % 40}").incr("p:count").echo(f"e{i}")
            wanted += [True, str(i), i + 1, f"e{i}"]
        equal(len(pipe), 1000)
        equal(pipe.execute(), wanted)
    with r.pipeline(transaction=False) as pipe:
        pipe.set("p:text", "abc").incr("p:text").get("p:text")
        first, second, third = pipe.execute(raise_on_error=False)
        equal([first, type(second), third], [True, ResponseError, "abc"])


def test_transaction_over_shards(cluster, r, node, protocol):
    for turn in range(5):
        with r.pipeline(transaction=True) as pipe:
            for i, key in enumerate(SPREAD):
                pipe.set(key, f"{turn}:{i}").strlen(key).get(key)
            wanted = [x for i in range(len(SPREAD)) for x in (True, len(f"{turn}:{i}"), f"{turn}:{i}")]
            equal(pipe.execute(), wanted)
    with r.pipeline(transaction=True) as pipe:
        for key in SPREAD:
            pipe.get(key)
        equal(pipe.execute(), [f"4:{i}" for i in range(len(SPREAD))])
    with r.pipeline(transaction=True) as pipe:
        pipe.mget(SPREAD[:2]).delete(*SPREAD).exists(*SPREAD).ping()
        equal(pipe.execute(), [["4:0", "4:1"], len(SPREAD), 0, True])


def test_nobody_sees_half_a_transaction(cluster, r, node, protocol):
    """One writer sets all keys to the same number; a reader on another node must never see two."""
    stop = threading.Event()

    def write():
        try:
            with cluster.client(node, protocol) as writer:
                for i in range(60):
                    pipe = writer.pipeline(transaction=True)
                    for key in SPREAD:
                        pipe.set(key, i)
                    pipe.execute()
        finally:
            stop.set()

    def read():
        with cluster.client((node + 1) % NODES, protocol) as reader:
            last = -1
            while not stop.is_set():
                pipe = reader.pipeline(transaction=True)
                for key in SPREAD:
                    pipe.get(key)
                for values in (pipe.execute(), reader.mget(SPREAD)):
                    equal(len(set(values)), 1)
                    now = -1 if values[0] is None else int(values[0])
                    assert now >= last, f"went back from {last} to {now}"
                    last = now

    in_threads([write, read])
    equal(r.mget(SPREAD), ["59"] * len(SPREAD))


def test_watch_conflict(cluster, r, node, protocol):
    other = cluster.client((node + 1) % NODES, protocol)
    for touch in (lambda: other.set("w", "theirs"), lambda: other.delete("w"), lambda: other.expire("w", 100)):
        r.set("w", "0")
        with r.pipeline() as pipe:
            pipe.watch("w", "w:unrelated")
            touch()
            pipe.multi()
            pipe.set("w:mine", "1").set("w:mine2", "1")
            raises(WatchError, "Watched variable changed", pipe.execute)
        equal(r.exists("w:mine", "w:mine2"), 0)
    other.close()


def test_watch_without_conflict(cluster, r, node, protocol):
    r.set("w", "0")
    with r.pipeline() as pipe:
        pipe.watch("w", "w:absent")
        equal(pipe.get("w"), "0")
        r.set("w:else", "1")  # another key
        pipe.multi()
        pipe.set("w", "1").get("w:else")
        equal(pipe.execute(), [True, "1"])
        pipe.watch("w")
        r.set("w", "2")
        pipe.unwatch()
        pipe.multi()
        pipe.incr("w")
        equal(pipe.execute(), [3])


def gone(r, key, lifetime):
    """Waits until a key has expired, which may not take much longer than its lifetime."""
    limit = time.monotonic() + lifetime + 5
    while r.exists(key):
        assert time.monotonic() < limit, f"{key} does not expire"


def test_watch_sees_a_key_expire(cluster, r, node, protocol):
    r.set("w:short", "0", px=500)
    with r.pipeline() as pipe:
        pipe.watch("w:short")
        gone(r, "w:short", 0.5)
        pipe.multi()
        pipe.set("w:mine", "1")
        raises(WatchError, "Watched variable changed", pipe.execute)
    equal(r.exists("w:mine"), 0)


def test_watch_retry_loops_add_up(cluster, r, node, protocol):
    loops = [increment_by_transaction, increment_by_watch]
    clients = [cluster.client(node, protocol) for _ in range(THREADS)]
    in_threads([lambda i=i: loops[i % 2](clients[i], "sum") for i in range(THREADS)])
    equal(r.get("sum"), str(THREADS * INCREMENTS))
    equal(r.get("sum:times"), str(THREADS // 2 * INCREMENTS))
    for client in clients:
        client.close()


def test_bad_command_aborts_the_transaction(cluster, r, node, protocol):
    r.set("x", "before")
    with r.pipeline(transaction=True) as pipe:
        pipe.set("x", "after").execute_command("NOSUCH").set("y", "1")
        raises(ResponseError, "unknown command 'NOSUCH'", pipe.execute)
    equal(r.mget("x", "y"), ["before", None])
    # The same by hand, on one connection: EXEC itself must say EXECABORT, and leave the MULTI state.
    with cluster.client(node, protocol, single_connection_client=True) as one:
        one.set_response_callback("SET", lambda reply, **_: reply)  # else it makes a bool of QUEUED
        equal(one.execute_command("MULTI"), "OK")
        equal(one.execute_command("SET", "x", "after"), "QUEUED")
        raises(ResponseError, "wrong number of arguments for 'get' command", lambda: one.execute_command("GET"))
        raises(ExecAbortError, "previous errors", lambda: one.execute_command("EXEC"))
        equal(one.get("x"), "before")
        raises(ResponseError, "EXEC without MULTI", lambda: one.execute_command("EXEC"))
        equal(one.execute_command("MULTI"), "OK")
        equal(one.execute_command("SET", "x", "after"), "QUEUED")
        equal(one.execute_command("DISCARD"), "OK")
        equal(one.get("x"), "before")


def test_an_error_inside_exec_stops_nothing(cluster, r, node, protocol):
    with r.pipeline(transaction=True) as pipe:
        pipe.set("e:text", "abc").incr("e:text").set("e:other", "1").incr("e:count").rename("absent", "z").get("e:text")
        got = pipe.execute(raise_on_error=False)
    equal([type(got[1]), type(got[4])], [ResponseError, ResponseError])
    equal(str(got[1]), "value is not an integer or out of range")
    equal(str(got[4]), "no such key")
    equal([got[0], got[2], got[3], got[5]], [True, True, 1, "abc"])
    equal(r.mget("e:text", "e:other", "e:count"), ["abc", "1", "1"])


def test_scan_gives_every_key_once(cluster, r, node, protocol):
    wanted = sorted(f"scan:{i:04}" for i in range(2000))
    r.mset({key: "x" for key in wanted[:1000]})
    with r.pipeline(transaction=False) as pipe:
        for key in wanted[1000:]:
            pipe.set(key, "x")
        pipe.execute()
    equal(r.dbsize(), 2000)
    for count in (10, 333, 5000):
        equal(sorted(r.scan_iter(count=count)), wanted)
    equal(sorted(r.scan_iter(match="scan:19*", count=100)), wanted[1900:])
    equal(sorted(r.scan_iter(_type="string", count=500)), wanted)
    equal(sorted(r.keys("scan:000?")), wanted[:10])
    assert r.randomkey() in set(wanted)


def test_expiry(cluster, r, node, protocol):
    others = [cluster.client(other, protocol) for other in range(NODES)]
    r.set("t", "1", px=1000)
    r.set("t:kept", "1", ex=100)
    equal([r.ttl("t:kept") in (99, 100), r.ttl("absent"), r.persist("t:kept"), r.ttl("t:kept")], [True, -2, True, -1])
    assert 0 < r.pttl("t") <= 1000, r.pttl("t")
    equal([other.get("t") for other in others], ["1"] * NODES)
    gone(r, "t", 1)
    for _ in range(3):
        equal([other.get("t") for other in others], [None] * NODES)
    equal([r.exists("t"), r.ttl("t"), r.dbsize()], [0, -2, 1])
    equal([r.expire("t:kept", 100, nx=True), r.expire("t:kept", 200, nx=True)], [True, False])
    equal([r.set("t:kept", "2", keepttl=True), r.ttl("t:kept") > 90], [True, True])
    equal([r.set("t:kept", "3"), r.ttl("t:kept")], [True, -1])
    equal([r.getex("t:kept", px=50), r.pexpire("absent", 10)], ["3", False])
    gone(r, "t:kept", 0.05)
    for other in others:
        other.close()


# ------------------------------------------------------------------------------------------- once: all nodes together


def test_watch_retry_loops_add_up_over_all_nodes(cluster):
    with cluster.client(0) as r:
        r.flushall()
        loops = [increment_by_transaction, increment_by_watch]
        clients = [cluster.client(i % NODES, protocol=2 + i % 2) for i in range(THREADS)]
        in_threads([lambda i=i: loops[i % 2](clients[i], "sum") for i in range(THREADS)])
        equal(r.get("sum"), str(THREADS * INCREMENTS))
        for client in clients:
            client.close()


def main():
    assert redis.VERSION[0] == 5, f"wants redis-py 5, this is {redis.__version__}"
    tests = [test for name, test in globals().items() if name.startswith("test_")]
    on_each_node = [test for test in tests if test.__code__.co_argcount == 4]
    passed, failed = 0, []

    def attempt(name, call):
        nonlocal passed
        begun = time.monotonic()
        try:
            call()
        except Exception:
            failed.append(name)
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED {name}", flush=True)
        else:
            passed += 1
            print(f"ok     {name} ({time.monotonic() - begun:.2f} s)", flush=True)

    def on_node(test, node, protocol):
        with cluster.client(node, protocol) as r:
            r.flushall()
            test(cluster, r, node, protocol)

    def stops_cleanly():
        equal(cluster.stop(), 0)

    # A SIGTERM of the caller's (a time limit, say) must not leave the cluster behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="quorate-redis-py.") as folder:
        cluster = Cluster(os.environ["QUORATE_BIN"], folder)
        try:
            attempt("becomes ready", cluster.wait_until_ready)
            if not failed:
                for test in on_each_node:
                    for node in range(NODES):
                        for protocol in (2, 3):
                            name = f"{test.__name__} on node {node + 1}, RESP{protocol}"
                            attempt(name, lambda test=test, node=node, p=protocol: on_node(test, node, p))
                for test in tests:
                    if test not in on_each_node:
                        attempt(test.__name__, lambda test=test: test(cluster))
                attempt("SIGTERM stops it with exit code 0", stops_cleanly)
            if failed:
                cluster.show_log()
        finally:
            cluster.kill_if_running()
    for name in failed:
        print(f"FAILED {name}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
