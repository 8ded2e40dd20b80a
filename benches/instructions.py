#!/usr/bin/env python3
"""How many instructions node 1 runs for each command, and where: counted by valgrind's callgrind, so two runs differ by some percent only.

    cargo build --release
    python3 benches/instructions.py set:64        # a test of `quorate bench`, clients, and how deep if not one
    python3 benches/instructions.py set:64:16 --top 60

Node 1 of three leads all shards and is some ten times slower than the others, so what depends on time (how many requests share an entry,
snapshots) is not as it is without valgrind. The kernel's part is not counted. Needs valgrind (`apt-get install valgrind`).
"""

import argparse
import re
import socket
import subprocess
import time

from growth import Cluster, bench

SHARDS, VALUE, KEYS = 4, 100, 100_000
LINE = re.compile(r"^\s*([\d,]+) \([^)]*\)\s+(?:[^\s:]+:)?(\S.*?)(?: \[[^\]]*\])?$")


def ask(port, command):
    with socket.create_connection(("127.0.0.1", port), 30) as s, s.makefile("rb") as reply:
        s.sendall(command + b"\r\n")
        first = reply.readline()
        return reply.read(int(first[1:])).decode() if first.startswith(b"$") else first.decode()


def commands(port):
    return int(re.search(r"total_commands_processed:(\d+)", ask(port, b"INFO stats"))[1])


def under_callgrind(cluster, out):
    """Starts node 1 anew, where nothing is counted yet."""
    node = cluster.nodes[0]
    node.terminate()
    node.wait()
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}", cluster.binary, "server"]
    command += ["--config", cluster.dir / "c.toml", "--node", "1", "--data-dir", cluster.dir / "n1"]
    with (cluster.dir / "1.log").open("ab") as log:
        cluster.nodes[0] = subprocess.Popen(command, stdout=log, stderr=log)
    cluster.wait(cluster.port, SHARDS)
    # Everything is slow here.
    ask(cluster.port, b"CONFIG SET slowlog-log-slower-than -1")


def leads_all(cluster):
    told = cluster.status(1)
    shards = [group for group in told["groups"] if group["group"].startswith("shard")] if told else []
    return bool(shards) and all(group["leader"] == 1 for group in shards)


def until_it_leads(args, cluster):
    """Leaders go to where the writes come from."""
    end = time.monotonic() + 120
    while not leads_all(cluster):
        if time.monotonic() > end:
            raise TimeoutError("node 1 does not get to lead all shards")
        bench(args.binary, cluster, ["set"], 64, KEYS, 2)


def control(cluster, *what):
    subprocess.run(["callgrind_control", *what, str(cluster.nodes[0].pid)], check=True, capture_output=True)


def counted(args, cluster, out):
    name, clients, *depth = args.test.split(":")
    pipeline = int(depth[0]) if depth else 1

    def run(seconds):
        return bench(args.binary, cluster, [name], int(clients), KEYS, seconds, pipeline)

    until_it_leads(args, cluster)
    before = commands(cluster.port)
    control(cluster, "-i", "on")
    run(args.seconds)
    control(cluster, "-i", "off")
    count = commands(cluster.port) - before
    control(cluster, "-d")
    return count, f"{out}.1"


def told(args, count, file):
    command = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", file]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    most = {}
    for line in filter(None, map(LINE.match, text.splitlines())):
        instructions, function = int(line[1].replace(",", "")), line[2]
        most[function] = max(most.get(function, 0), instructions)
    total = most.pop("TOTALS", None) or most.pop("PROGRAM TOTALS")
    print(f"{count} commands, {total / count:.0f} instructions each; with what they call:")
    named = re.compile(r"(?!=>).*(quorate|openraft|mi_malloc|mem(cpy|move))")
    ours = [item for item in most.items() if named.match(item[0])]
    for function, instructions in sorted(ours, key=lambda item: -item[1])[: args.top]:
        print(f"{instructions / count:10.0f}  {function[:150]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", metavar="TEST:CLIENTS[:DEPTH]")
    parser.add_argument("--binary", default="target/release/quorate")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--top", type=int, default=40)
    args = parser.parse_args()
    cluster = Cluster(args.binary, SHARDS)
    try:
        cluster.load(KEYS, VALUE)
        out = cluster.dir / "callgrind.out"
        under_callgrind(cluster, out)
        told(args, *counted(args, cluster, out))
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
