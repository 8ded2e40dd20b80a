#!/usr/bin/env python3
"""What a collection of a million elements costs: each operation beside the same on a hundred elements, and what other clients feel
while a large one is deleted and while snapshots are cut.

    cargo build --release
    python3 benches/collections.py            # about four minutes; a cluster of its own on loopback; prints a table
    python3 benches/collections.py --elements 100000 --redis   # beside Redis (on this machine, without persistence)

One connection, no pipeline; medians of so many calls. Three processes and the load share this machine.
"""

import argparse
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from growth import Cluster, free_ports

SMALL = 100
CALLS = 2000
BATCH = 1000
SHARDS = 4

# Name, how one element is added, and operations on it; {n}: any element's number, {new}: one that is not there.
TYPES = {
    "list": ("RPUSH {key} {values}", lambda n: f"element:{n:010}", [
        "LPUSH {key} new", "LPOP {key}", "RPUSH {key} new", "RPOP {key}", "LINDEX {key} {n}", "LSET {key} {n} element:set",
        "LRANGE {key} {n} {n}", "LLEN {key}",
    ]),
    "set": ("SADD {key} {values}", lambda n: f"element:{n:010}", [
        "SADD {key} {new}", "SISMEMBER {key} {element}", "SREM {key} {element}", "SPOP {key}", "SRANDMEMBER {key}",
        "SCARD {key}",
    ]),
    "hash": ("HSET {key} {values}", lambda n: f"element:{n:010} value:{n:010}", [
        "HSET {key} {new} 1", "HGET {key} {element}", "HSET {key} {element} 2", "HDEL {key} {element}", "HRANDFIELD {key}",
        "HLEN {key}",
    ]),
    "zset": ("ZADD {key} {values}", lambda n: f"{n} element:{n:010}", [
        "ZADD {key} {n} {new}", "ZINCRBY {key} 1.5 {element}", "ZSCORE {key} {element}", "ZRANK {key} {element}",
        "ZRANGE {key} {n} {n}", "ZCOUNT {key} {n} +inf", "ZREM {key} {element}", "ZPOPMIN {key}",
    ]),
}


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.socket.makefile("rb")

    def reply(self):
        line = self.replies.readline()
        if line[:1] == b"-":
            raise RuntimeError(line.decode())
        if line[:1] == b"$" and int(line[1:]) >= 0:
            return self.replies.read(int(line[1:]) + 2)
        if line[:1] == b"*":
            return [self.reply() for _ in range(int(line[1:]))]
        return line

    def call(self, text):
        words = text.split()
        out = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        self.socket.sendall(out.encode())
        return self.reply()


def fill(client, kind, key, elements):
    add, element, _ = TYPES[kind]
    for start in range(0, elements, BATCH):
        values = " ".join(element(n) for n in range(start, min(elements, start + BATCH)))
        client.call(add.format(key=key, values=values))


def median_us(client, template, key, elements):
    """Median time of a call, on elements drawn anew each time."""
    took = []
    for call in range(CALLS if elements > CALLS else SMALL // 2):
        n = random.randrange(elements)
        text = template.format(key=key, n=n, new=f"new:{elements}:{call}", element=f"element:{n:010}")
        begin = time.perf_counter()
        client.call(text)
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1e6


class Beside(threading.Thread):
    """Reads another key of the same shard all the time, and keeps the longest it took."""

    def __init__(self, port, key):
        super().__init__(daemon=True)
        self.client, self.key, self.longest, self.over = Client(port), key, 0.0, False

    def run(self):
        while not self.over:
            begin = time.perf_counter()
            self.client.call(f"SET {self.key} 1")
            self.longest = max(self.longest, time.perf_counter() - begin)

    def stop(self):
        self.over = True
        self.join()
        return self.longest * 1e3


def measure(name, port, elements):
    client = Client(port)
    print(f"{name}: {'operation':32} {SMALL:>10} {elements:>10}   ratio", flush=True)
    for kind, (_, _, operations) in TYPES.items():
        for template in operations:
            figures = []
            for size in (SMALL, elements):
                key = f"{{{kind}}}:{size}"
                if client.call(f"EXISTS {key}") == b":0\r\n":
                    begin = time.perf_counter()
                    fill(client, kind, key, size)
                    took = time.perf_counter() - begin
                    if size > SMALL:
                        print(f"{name}: {kind} of {size} filled in {took:.1f} s", flush=True)
                figures.append(median_us(client, template, key, size))
                if size == SMALL:
                    client.call(f"DEL {key}")
            print(f"{name}: {template:32} {figures[0]:8.0f}us {figures[1]:8.0f}us   {figures[1] / figures[0]:.2f}", flush=True)
    for kind in TYPES:
        beside = Beside(port, f"{{{kind}}}:other")
        beside.start()
        quiet_until = time.monotonic() + 1
        while time.monotonic() < quiet_until:
            time.sleep(0.05)
        quiet, beside.longest = beside.longest * 1e3, 0.0
        begin = time.perf_counter()
        client.call(f"DEL {{{kind}}}:{elements}")
        took = (time.perf_counter() - begin) * 1e3
        time.sleep(0.5)
        print(f"{name}: DEL of the {kind}: {took:.1f} ms; a SET beside it took {beside.stop():.1f} ms at the most, "
              f"{quiet:.1f} ms in a second before", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(pathlib.Path(__file__).parent.parent / "target/release/quorate"))
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--redis", action="store_true", help="the same with redis-server, beside it")
    args = parser.parse_args()
    if args.redis:
        port = free_ports(1)[0]
        with tempfile.TemporaryDirectory() as folder:
            server = subprocess.Popen(
                ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder],
                stdout=subprocess.DEVNULL)
            try:
                time.sleep(1)
                measure("Redis  ", port, args.elements)
            finally:
                server.terminate()
                server.wait()
    cluster = Cluster(args.binary, SHARDS)
    try:
        measure("Quorate", cluster.ports[0], args.elements)
    finally:
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
