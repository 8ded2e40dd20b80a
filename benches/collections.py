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
import statistics
import sys
import time

from beside import Beside, Client, redis_server
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
    # Ids are numbers; one that the server gives is its time, and larger.
    "stream": (None, lambda n: f"XADD {{key}} {n + 1}-1 field value:{n:010}", [
        "XADD {key} * field new", "XLEN {key}", "XRANGE {key} {n}-1 {n}-1", "XREAD COUNT 1 STREAMS {key} {n}-0",
        "XREVRANGE {key} + - COUNT 1", "XDEL {key} {n}-1",
    ]),
}


def fill(client, kind, key, elements):
    add, element, _ = TYPES[kind]
    for start in range(0, elements, BATCH):
        each = [element(n) for n in range(start, min(elements, start + BATCH))]
        if add is None:
            client.pipeline([one.format(key=key) for one in each])
        else:
            client.call(add.format(key=key, values=" ".join(each)))


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
    for _ in range(3):
        what_others_feel(name, client, port, "other", "SAVE")
    for kind in TYPES:
        what_others_feel(name, client, port, f"{{{kind}}}:other", f"DEL {{{kind}}}:{elements}")


def what_others_feel(name, client, port, key, command):
    """How long a command takes, and the longest SET beside it; and in as long a time before."""
    beside = Beside(port, key)
    beside.start()
    time.sleep(2)
    quiet = beside.taken()[-1]
    begin = time.perf_counter()
    client.call(command)
    took = (time.perf_counter() - begin) * 1e3
    time.sleep(max(0.0, 2 - took / 1e3))
    print(f"{name}: {command}: {took:.1f} ms; a SET beside it took {beside.stop()[-1]:.1f} ms at the most, "
          f"{quiet:.1f} ms in two seconds before", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(pathlib.Path(__file__).parent.parent / "target/release/quorate"))
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--redis", action="store_true", help="the same with redis-server, beside it")
    args = parser.parse_args()
    if args.redis:
        with redis_server(free_ports(1)[0]) as port:
            measure("Redis  ", port, args.elements)
    cluster = Cluster(args.binary, SHARDS)
    try:
        measure("Quorate", cluster.ports[0], args.elements)
    finally:
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
