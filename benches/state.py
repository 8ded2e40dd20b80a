#!/usr/bin/env python3
"""What a large state costs: memory, restart, snapshots while clients write, a follower that was away, values of 64 MiB.

    cargo build --release
    python3 benches/state.py            # about ten minutes; starts and stops its own clusters on loopback; prints a table
    python3 benches/state.py away big   # only these; of: memory, snapshots, away, big, redis (needs redis-server)

Three processes and the load share this machine.
"""

import argparse
import os
import pathlib
import re
import socket
import sys
import threading
import time

from beside import Client, redis_server
from growth import Cluster, bench, free_ports, load

SHARDS = 4
VALUE = 100
MIB = 1 << 20
WAIT_SECONDS = 180


def rss_mb(cluster):
    """Memory of each node."""
    status = [pathlib.Path(f"/proc/{node.pid}/status").read_text() for node in cluster.nodes]
    return [int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1024 / 1e6 for text in status]


def until(what, true):
    end = time.monotonic() + WAIT_SECONDS
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


def applied(cluster, node):
    told = cluster.status(node)
    return told and {group["group"]: group["applied"] for group in told["groups"]}


def sets(args, cluster, clients, keys, seconds, pipeline=1):
    [result] = bench(args.binary, cluster, ["set"], clients, keys, seconds, pipeline)
    return result


def told(what, value):
    print(f"| {what} | {value} |", flush=True)


def in_turn(figures):
    return " / ".join(f"{figure:.0f}" for figure in figures)


def restart_seconds(cluster, keys):
    """Kills all nodes and starts them: until each node answers a read of each shard."""
    for node in cluster.nodes:
        node.kill()
        node.wait()
    begin = time.monotonic()
    cluster.start()
    probes = b"".join(b"GET key:%012d\r\n" % (k * keys // 64) for k in range(64))
    for port in cluster.ports[::3]:
        until("a node serves", lambda: answers(port, probes, 64))
    return time.monotonic() - begin


def answers(port, requests, count):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as s, s.makefile("rb") as replies:
            s.sendall(requests)
            for _ in range(count):
                header = replies.readline()
                if not header.startswith(b"$") or header == b"$-1\r\n":
                    return False
                replies.read(int(header[1:]) + 2)
            return True
    except OSError:
        return False


def memory(args):
    cluster = Cluster(args.binary, SHARDS)
    try:
        cluster.load(args.keys, VALUE)
        told(f"memory of a node when {args.keys:,} keys have been written, MB", in_turn(rss_mb(cluster)))
        cluster.rest()
        # The allocator gives back what it does not need a little later.
        time.sleep(30)
        told("memory of a node at rest, MB", in_turn(rss_mb(cluster)))
        told("restart of all three at rest, s", f"{restart_seconds(cluster, args.keys):.1f}")
        cluster.load(args.keys, VALUE)
        told("restart of all three when all keys have just been written again, s", f"{restart_seconds(cluster, args.keys):.1f}")
    finally:
        cluster.close()


def redis(args):
    with redis_server(free_ports(1)[0]) as port:
        load(port, args.keys, VALUE)
        info = Client(port).call("INFO memory").decode()
        rss = next(int(line.split(":")[1]) for line in info.splitlines() if line.startswith("used_memory_rss:"))
        told(f"memory of Redis when {args.keys:,} keys have been written, MB", f"{rss / 1e6:.0f}")


def snapshots(args):
    os.environ["QUORATE_LOG"] = "warn,quorate::raft::state_machine=debug"
    cluster = Cluster(args.binary, SHARDS)
    try:
        cluster.load(args.large, VALUE)
        cluster.rest()
        time.sleep(30)
        before = rss_mb(cluster)
        logs = [cluster.dir / f"{node}.log" for node in (1, 2, 3)]
        starts = [log.stat().st_size for log in logs]
        peaks = [0, 0, 0]
        over = threading.Event()

        def watch():
            while not over.wait(0.05):
                peaks[:] = map(max, peaks, rss_mb(cluster))

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = sets(args, cluster, 64, args.large, 40, pipeline=16)
        over.set()
        watcher.join()
        text = "".join(log.read_text()[start:] for log, start in zip(logs, starts))
        cuts = [int(us) for us in re.findall(r"cut_us\S*=\S*?(\d+)", re.sub(r"\x1b\[\d*m", "", text))]
        told(f"{args.large:,} keys, SET by 64 clients 16 deep: a second; p50 / p99, ms",
             f"{result['per_second']:,.0f}; {result['p50_us'] / 1000:.1f} / {result['p99_us'] / 1000:.1f}")
        told("snapshots meanwhile; longest cut, ms", f"{len(cuts)}; {max(cuts, default=0) / 1000:.1f}")
        told("memory before, MB; largest meanwhile", f"{in_turn(before)}; {in_turn(peaks)}")
    finally:
        cluster.close()
        del os.environ["QUORATE_LOG"]


def away(args):
    cluster = Cluster(args.binary, SHARDS)
    try:
        cluster.load(args.keys, VALUE)
        told("SET by 16 clients, all nodes there: p50 / p99, ms", latency(sets(args, cluster, 16, args.keys, 10)))
        cluster.nodes[2].kill()
        cluster.nodes[2].wait()
        cluster.load(args.keys, VALUE)
        told("one node away: p50 / p99, ms", latency(sets(args, cluster, 16, args.keys, 10)))
        begin = time.monotonic()
        cluster.start(only=3)
        found = []

        def back():
            until("it has caught up", lambda: close(applied(cluster, 3), applied(cluster, 1)))
            found.append(time.monotonic() - begin)

        watcher = threading.Thread(target=back)
        watcher.start()
        told("while it comes back: p50 / p99, ms", latency(sets(args, cluster, 16, args.keys, 10)))
        watcher.join()
        told(f"until it has caught up with {args.keys:,} writes, from its start, s", f"{found[0]:.1f}")
    finally:
        cluster.close()


def close(behind, ahead):
    return behind and ahead and all(behind.get(group, 0) + 50 >= index for group, index in ahead.items())


def latency(result):
    return f"{result['p50_us'] / 1000:.1f} / {result['p99_us'] / 1000:.1f}"


def big(args):
    cluster = Cluster(args.binary, SHARDS)
    try:
        value = os.urandom(64 * MIB)
        for round in range(2):
            seconds = []
            for request in (b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n%s\r\n" % (len(value), value), b"GET big\r\n"):
                begin = time.monotonic()
                with socket.create_connection(("127.0.0.1", cluster.port)) as s, s.makefile("rb") as reply:
                    s.sendall(request)
                    header = reply.readline()
                    body = reply.read(int(header[1:])) if header.startswith(b"$") else header
                seconds.append(time.monotonic() - begin)
            assert body == value, header
        told("SET / GET of 64 MiB, s", " / ".join(f"{s:.2f}" for s in seconds))
    finally:
        cluster.close()


def main():
    parts = {"memory": memory, "snapshots": snapshots, "away": away, "big": big, "redis": redis}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[[], *parts], help="what to measure; all, if nothing is named")
    parser.add_argument("--binary", default="target/release/quorate")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=5_000_000, help="keys of the state that is written as a snapshot")
    args = parser.parse_args()
    print("| what | figure |\n|---|--:|")
    for part in args.part or parts:
        parts[part](args)


if __name__ == "__main__":
    sys.exit(main())
