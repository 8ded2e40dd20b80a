#!/usr/bin/env python3
"""Two builds beside each other: a cluster of each, measured in turn, since the machine's speed changes within minutes.

    python3 benches/turns.py before=/path/to/quorate after=/path/to/quorate [--keys 100000] [--turns 5] set:64 set:64:16 get:64
    python3 benches/turns.py one=/path/to/quorate two=/path/to/quorate@2 set:64      # with two threads a node

A test is what `quorate bench -t` calls it, with how many clients, and how many commands deep if not one. Prints medians: how many a second,
p50, and the processor time of all three nodes for each. Both clusters stand on this machine all the time; the one that is not measured rests.
"""

import argparse
import os
import pathlib
import statistics

from growth import Cluster, bench

SHARDS, VALUE = 4, 100
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(cluster):
    """Of all nodes, in user and kernel mode."""
    stats = [pathlib.Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split() for node in cluster.nodes]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICKS


def measured(args, binary, cluster, test):
    name, clients, *depth = test.split(":")
    pipeline = int(depth[0]) if depth else 1
    before = processor_seconds(cluster)
    [result] = bench(binary, cluster, [name], int(clients), args.keys, args.seconds, pipeline)
    # The bench runs for a second before it counts, at the same pace.
    each = (processor_seconds(cluster) - before) / (result["per_second"] * (args.seconds + 1))
    return result["per_second"], result["p50_us"] / 1e3, each * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", metavar="NAME=BINARY[@THREADS] or TEST")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--load", help="the program that puts the load on; the last build, if nothing is named")
    args = parser.parse_intermixed_args()
    named = [what.split("=", 1) for what in args.what if "=" in what]
    builds = {name: binary.partition("@") for name, binary in named}
    tests = [what for what in args.what if "=" not in what]
    # One program puts the load on all, since that is not what is compared.
    load = args.load or list(builds.values())[-1][0]
    clusters, figures = {}, {}
    try:
        for name, (binary, _, threads) in builds.items():
            clusters[name] = Cluster(binary, SHARDS, int(threads or 0))
            clusters[name].load(args.keys, VALUE)
            clusters[name].gather_leaders()
        for cluster in clusters.values():
            cluster.rest()
        for _ in range(args.turns):
            for test in tests:
                for name, cluster in clusters.items():
                    figures.setdefault((test, name), []).append(measured(args, load, cluster, test))
    finally:
        for cluster in clusters.values():
            cluster.close()
    print("| test | build | a second | p50, ms | processor, µs each |\n|---|---|--:|--:|--:|")
    for (test, name), all_of in figures.items():
        rate, p50, each = (statistics.median(column) for column in zip(*all_of))
        print(f"| {test} | {name} | {rate:,.0f} | {p50:.2f} | {each:.1f} |")


if __name__ == "__main__":
    main()
