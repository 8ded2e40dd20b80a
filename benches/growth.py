#!/usr/bin/env python3
"""How throughput and latency grow with clients, shards and keys, on this machine; and the pictures of docs/performance.md.

    cargo build --release
    python3 benches/growth.py measure results.tsv     # starts and stops its own clusters on loopback
    python3 benches/growth.py draw results.tsv docs   # needs matplotlib

Each figure is the median of `--repeat` runs of `quorate bench` against node 1 of a cluster of three processes. The machine's speed changes
within minutes, so the points of a plot are measured in turn: all numbers of shards, or of keys, one after the other, and again. Clusters
with other numbers of keys stand side by side, and are measured at rest: their snapshots are written, their logs dropped. Nothing is counted
before node 1 leads all shards.
"""

import argparse
import csv
import json
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

COLUMNS = ["plot", "test", "shards", "clients", "keys", "per_second", "p50_us", "p99_us"]
TESTS = ["set", "get", "exec2"]
SHARDS = [1, 2, 4, 8, 16]
CLIENTS = [1, 4, 16, 64, 256, 1024]
KEYS = [10_000, 100_000, 1_000_000, 5_000_000]
SHARDS_COMMON, CLIENTS_COMMON, KEYS_COMMON = 4, 64, 100_000
START_SECONDS = 60
LEADERS_SECONDS = 60
REST_SECONDS = 180
QUIET_SECONDS = 2
LOAD_PIPELINE = 500


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def config(shards, ports, threads):
    own = f"threads = {threads}\n" if threads else ""  # builds of before have none
    nodes = [
        f'[[node]]\nid = {n + 1}\nclient = "127.0.0.1:{ports[3 * n]}"\npeer = "127.0.0.1:{ports[3 * n + 1]}"\n'
        f'admin = "127.0.0.1:{ports[3 * n + 2]}"\n{own}'
        for n in range(3)
    ]
    return f'[cluster]\nname = "growth"\nshards = {shards}\n\n' + "\n".join(nodes)


def load(port, keys, size):
    """Sets every key that `quorate bench` chooses from."""
    value = b"v" * size
    with socket.create_connection(("127.0.0.1", port)) as s, s.makefile("rb") as replies:
        for first in range(0, keys, LOAD_PIPELINE):
            part = range(first, min(first + LOAD_PIPELINE, keys))
            s.sendall(b"".join(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n" % (k, size, value) for k in part))
            for _ in part:
                reply = replies.readline()
                if reply != b"+OK\r\n":
                    raise RuntimeError(f"loading failed: {reply!r}")


class Cluster:
    """Three processes on free ports, with their data in a temporary folder."""

    def __init__(self, binary, shards, threads=0):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="quorate-growth."))
        self.binary = binary
        self.ports = free_ports(9)
        self.port = self.ports[0]
        (self.dir / "c.toml").write_text(config(shards, self.ports, threads))
        self.nodes = [None] * 3
        self.start()
        for port in self.ports[::3]:
            self.wait(port, shards)

    def start(self, only=None):
        """Starts the nodes, or one of them."""
        for n in [only] if only else [1, 2, 3]:
            command = [self.binary, "server", "--config", self.dir / "c.toml", "--node", str(n)]
            with (self.dir / f"{n}.log").open("ab") as log:
                data = ["--data-dir", self.dir / f"n{n}"]
                self.nodes[n - 1] = subprocess.Popen(command + data, stdout=log, stderr=log)

    def wait(self, port, shards):
        """Until each shard takes a write through this node."""
        end = time.monotonic() + START_SECONDS
        for probe in range(8 * shards):
            while not self.try_set(port, probe):
                if time.monotonic() > end:
                    raise TimeoutError(f"port {port} does not serve; see {self.dir}")
                time.sleep(0.05)

    @staticmethod
    def try_set(port, probe):
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as s:
                s.sendall(b"SET probe:%d 1\r\n" % probe)
                return s.recv(64).startswith(b"+OK")
        except OSError:
            return False

    def load(self, keys, size):
        load(self.port, keys, size)

    def status(self, node):
        """What `QUORATE STATUS` says at a node, or None."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports[3 * (node - 1)]), 5) as s, s.makefile("rb") as reply:
                s.sendall(b"QUORATE STATUS\r\n")
                return json.loads(reply.read(int(reply.readline()[1:])))
        except (OSError, ValueError):
            return None

    def gather_leaders(self):
        """Until node 1, which the load is put on, leads all shards: they follow those who write."""
        end = time.monotonic() + LEADERS_SECONDS
        while not self.leads(1):
            if time.monotonic() > end:
                raise TimeoutError(f"leaders do not come to node 1; see {self.dir}")
            bench(self.binary, self, ["set"], CLIENTS_COMMON, KEYS_COMMON, 1)

    def leads(self, node):
        """Whether a node leads all shards."""
        told = self.status(node)
        shards = [group for group in told["groups"] if group["group"].startswith("shard")] if told else []
        return shards and all(group["leader"] == node for group in shards)

    def rest(self):
        """Until all groups have slept, and nobody has written a snapshot, for a while: what is due is written in sleep."""
        end, since = time.monotonic() + REST_SECONDS, time.monotonic()
        while time.monotonic() < since + QUIET_SECONDS:
            if not all(map(self.rests, (1, 2, 3))):
                since = time.monotonic()
            if since > end:
                raise TimeoutError(f"the cluster does not come to rest; see {self.dir}")
            time.sleep(0.1)

    def rests(self, node):
        told = self.status(node)
        return told and all(group["asleep"] for group in told["groups"]) and not self.saves(node)

    def saves(self, node):
        """Whether a node writes a snapshot."""
        with socket.create_connection(("127.0.0.1", self.ports[3 * (node - 1)]), 5) as s, s.makefile("rb") as reply:
            s.sendall(b"INFO persistence\r\n")
            return b"rdb_bgsave_in_progress:1" in reply.read(int(reply.readline()[1:]))

    def close(self):
        for node in self.nodes:
            node.send_signal(signal.SIGTERM)
        for node in self.nodes:
            node.wait()
        shutil.rmtree(self.dir)


def bench(binary, cluster, tests, clients, keys, seconds, pipeline=1):
    command = [binary, "bench", "--addr", f"127.0.0.1:{cluster.port}", "--json", "-t", ",".join(tests)]
    command += ["-c", str(clients), "-k", str(keys), "-s", str(seconds), "-P", str(pipeline)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def measure(args):
    with open(args.results, "w", newline="") as file:
        out = csv.DictWriter(file, COLUMNS, delimiter="\t", extrasaction="ignore")
        out.writeheader()

        def row(plot, shards, clients, keys, cluster):
            for result in bench(args.binary, cluster, TESTS, clients, keys, args.seconds):
                result |= {"plot": plot, "shards": shards, "clients": clients, "keys": keys}
                out.writerow(result)
                print(*(result[c] for c in COLUMNS), flush=True)
            file.flush()

        for plot in args.plots:
            {"clients": by_clients, "keys": by_keys}[plot](args, row)


def by_clients(args, row):
    for _ in range(args.repeat):
        for shards in SHARDS:
            cluster = Cluster(args.binary, shards)
            try:
                cluster.gather_leaders()
                for clients in CLIENTS:
                    row("clients", shards, clients, KEYS_COMMON, cluster)
            finally:
                cluster.close()


def by_keys(args, row):
    clusters = {}
    try:
        for keys in KEYS:
            clusters[keys] = Cluster(args.binary, SHARDS_COMMON)
            clusters[keys].load(keys, 100)
        for cluster in clusters.values():
            cluster.rest()
        for _ in range(args.repeat):
            for keys, cluster in clusters.items():
                row("keys", SHARDS_COMMON, CLIENTS_COMMON, keys, cluster)
                cluster.rest()
    finally:
        for cluster in clusters.values():
            cluster.close()


def medians(rows, plot, test, by, value, **only):
    """The median of `value` at each `by`."""
    found = {}
    for r in rows:
        if r["plot"] == plot and r["test"] == test and all(r[k] == str(v) for k, v in only.items()):
            found.setdefault(int(r[by]), []).append(float(r[value]))
    return sorted((x, statistics.median(values)) for x, values in found.items())


def draw(args):
    import matplotlib

    matplotlib.use("svg")
    # The same results give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "quorate"
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    with open(args.results, newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))

    def panel(axes, title, x, y):
        axes.set(title=title, xlabel=x, ylabel=y, xscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")

    def save(figure, name):
        figure.tight_layout()
        figure.savefig(pathlib.Path(args.folder) / name, metadata={"Date": None})
        pyplot.close(figure)

    figure, axes = pyplot.subplots(1, len(TESTS), figsize=(13, 4))
    for test, a in zip(TESTS, axes):
        for shards in SHARDS:
            a.plot(*zip(*medians(rows, "clients", test, "clients", "per_second", shards=shards)), "o-", label=f"{shards} shards")
        a.set_ylim(bottom=0)
        panel(a, test.upper(), "clients", "a second")
    save(figure, "throughput.svg")

    figure, axes = pyplot.subplots(1, len(TESTS), figsize=(13, 4))
    for test, a in zip(TESTS, axes):
        for value in ["p50_us", "p99_us"]:
            points = medians(rows, "clients", test, "clients", value, shards=SHARDS_COMMON)
            a.plot(*zip(*((x, y / 1000) for x, y in points)), "o-", label=value[:3])
        a.set_yscale("log")
        panel(a, f"{test.upper()}, {SHARDS_COMMON} shards", "clients", "milliseconds")
    save(figure, "latency.svg")

    figure, a = pyplot.subplots(figsize=(5, 4))
    for test in TESTS:
        a.plot(*zip(*medians(rows, "keys", test, "keys", "per_second")), "o-", label=test.upper())
    a.set_ylim(bottom=0)
    panel(a, f"{CLIENTS_COMMON} clients, {SHARDS_COMMON} shards", "keys", "a second")
    save(figure, "keys.svg")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    m = commands.add_parser("measure")
    m.add_argument("results")
    m.add_argument("--binary", default="target/release/quorate")
    m.add_argument("--seconds", type=int, default=2)
    m.add_argument("--repeat", type=int, default=3)
    m.add_argument("--plots", nargs="+", choices=["clients", "keys"], default=["clients", "keys"])
    m.set_defaults(run=measure)
    d = commands.add_parser("draw")
    d.add_argument("results")
    d.add_argument("folder")
    d.set_defaults(run=draw)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
