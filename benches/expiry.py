#!/usr/bin/env python3
"""A million keys that expire within some seconds: what a client feels that writes meanwhile, and how long keys outlive their time.

    cargo build --release
    python3 benches/expiry.py [--keys 1000000] [--seconds 10] [--redis]      # about two minutes

Three processes and the load share this machine. "Later" is the time from the last key's expiry until the server has removed all.
"""

import argparse
import pathlib
import sys
import time

from beside import Beside, Client, redis_server
from growth import Cluster, free_ports

SHARDS = 4
BATCH = 1000


def expired(clients):
    """Keys that were removed: the most that any node says, for each has removed all."""
    def of(client):
        info = client.call("INFO stats").decode()
        return next(int(line.split(":")[1]) for line in info.splitlines() if line.startswith("expired_keys:"))
    return max(map(of, clients))


def percent(took, share):
    return took[min(len(took) - 1, int(len(took) * share))]


def tell(name, what, took):
    print(f"{name}: SET {what}: p50 {percent(took, 0.5):.2f} ms, p99 {percent(took, 0.99):.2f}, p99.9 {percent(took, 0.999):.2f}, "
          f"longest {took[-1]:.1f}; {len(took)} of them", flush=True)


def measure(name, ports, keys, seconds):
    clients = [Client(port) for port in ports]
    client = clients[0]
    begin = time.time()
    # Late enough for all to be there.
    first = int((begin + keys / 30_000 + 5) * 1000)
    for start in range(0, keys, BATCH):
        each = range(start, min(keys, start + BATCH))
        client.pipeline([f"SET key:{n} value:{n} PXAT {first + n * seconds * 1000 // keys}" for n in each])
    left = first / 1000 - time.time()
    print(f"{name}: {keys} keys written in {time.time() - begin:.1f} s; they expire from in {left:.1f} s on, for {seconds} s", flush=True)
    assert left > 2.5, "too slow: they have begun to expire; try fewer --keys"
    gone = expired(clients)
    beside = Beside(ports[0], "other")
    beside.start()
    time.sleep(max(0.0, left - 0.1))
    tell(name, "before", beside.taken())
    time.sleep(seconds + 0.1)
    while expired(clients) - gone < keys:
        time.sleep(0.05)
    later = time.time() - first / 1000 - seconds
    tell(name, "meanwhile", beside.stop())
    print(f"{name}: all are removed {later:.2f} s later; DBSIZE {client.call('DBSIZE').decode().strip()}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(pathlib.Path(__file__).parent.parent / "target/release/quorate"))
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--redis", action="store_true", help="the same with redis-server, beside it")
    args = parser.parse_args()
    if args.redis:
        with redis_server(free_ports(1)[0]) as port:
            measure("Redis  ", [port], args.keys, args.seconds)
    cluster = Cluster(args.binary, SHARDS)
    try:
        measure("Quorate", cluster.ports[::3], args.keys, args.seconds)
    finally:
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
