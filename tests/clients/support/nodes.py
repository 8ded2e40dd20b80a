"""A cluster of three processes, for the scripts one folder up that kill its nodes."""

import json
import os
import pathlib
import random
import re
import subprocess

import redis

from support.ports import is_free
from support.wait import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]


class Nodes:
    """Three processes on free ports, from the shipped config, whose text `edit` may change."""

    def __init__(self, folder, edit=lambda text: text):
        self.folder = folder
        shipped = (ROOT / "cluster-configs/three-nodes.toml").read_text()
        # Who leads does not depend on who writes: nodes are ended while they lead.
        text = edit(shipped.replace('# leaders = "near"', 'leaders = "spread"'))
        # One node whose tasks take turns, two whose tasks may run at the same moment.
        for node, threads in ((1, 2), (2, 1), (3, 3)):
            text = text.replace(f"\nid = {node}\n", f"\nid = {node}\nthreads = {threads}\n")
        ports = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", text)))
        while True:
            fresh = {port: random.randrange(10_000, 32_000) for port in ports}
            if len(set(fresh.values())) == len(ports) and all(map(is_free, fresh.values())):
                break
        self.config = folder / "cluster.toml"
        self.config.write_text(re.sub(r"(127\.0\.0\.1:)(\d+)", lambda m: f"{m[1]}{fresh[m[2]]}", text))
        clients = re.findall(r'client\s*=\s*"127\.0\.0\.1:(\d+)"', text)
        self.ports = [fresh[port] for port in clients]
        self.processes = {}
        for node in (1, 2, 3):
            self.start(node)
        self.wait_ready()

    def start(self, node):
        log = open(self.folder / f"node{node}.log", "ab")
        command = [os.environ["QUORATE_BIN"], "server", "--config", self.config, "--node", str(node)]
        command += ["--data-dir", self.folder / f"data{node}"]
        self.processes[node] = subprocess.Popen(command, stdout=log, stderr=log)

    def wait_ready(self):
        for port in self.ports:
            wait_until(f"the node at {port} writes", lambda: self.writes(port))

    def writes(self, port):
        """Whether a node can write to each shard, more likely than not."""
        try:
            client = redis.Redis(port=port)
            return all(client.set(f"ready:{n}", 1) for n in range(12))
        except redis.RedisError:
            return False

    def leads(self, node):
        """Whether it leads a shard, by its own word."""
        client = redis.Redis(port=self.ports[node - 1])
        status = json.loads(client.execute_command("QUORATE", "STATUS"))
        groups = {group["group"]: group["leader"] for group in status["groups"]}
        return any(name.startswith("shard-") and leader == node for name, leader in groups.items())

    def kill(self, node):
        process = self.processes.pop(node)
        process.kill()
        process.wait()

    def stop(self):
        for node in list(self.processes):
            self.kill(node)
