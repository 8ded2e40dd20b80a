#!/usr/bin/env python3
"""Records the keyspace events of a real redis-server into events.script.

    tests/cluster/record_events.py [--check]

The script is a list of commands, each behind "> ", and behind each the events
that it makes, as "event key". "> @wait EVENT KEY" waits for one. The server is
started here, on a free port in a temporary directory, and stopped by its pid;
all events are switched on, misses (m) and new keys (n) among them.
tests/cluster/events.rs replays the commands.
"""

import pathlib
import shlex
import socket
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.started import started  # noqa: E402

SCRIPT = pathlib.Path(__file__).resolve().parent / "events.script"


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def call(self, *args):
        parts = [part.encode() for part in args]
        body = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.socket.sendall(b"*%d\r\n%s" % (len(parts), body))
        return self.receive()

    def receive(self):
        line = self.file.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode("latin1")
        if kind == b"*":
            return None if rest == b"-1" else [self.receive() for _ in range(int(rest))]
        return line.decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def record(port, lines):
    writer, publisher, listener = Client(port), Client(port), Client(port)
    writer.call("CONFIG", "SET", "notify-keyspace-events", "KEAmn")
    listener.call("PSUBSCRIBE", "__keyevent@0__:*")
    listener.call("SUBSCRIBE", "end")

    def events(until=None):
        if until is None:
            publisher.call("PUBLISH", "end", "")
        while True:
            message = listener.receive()
            if message[0] == "message":
                return
            event = message[2].split(":", 1)[1] + " " + message[3]
            yield event
            if event == until:
                return

    for line in lines:
        if not line.startswith("> "):
            if line.startswith("#") or not line:
                yield line
            continue
        yield line
        if line.startswith("> @wait "):
            yield from events(line[8:])
        else:
            writer.call(*shlex.split(line[2:]))
            yield from events()


def main():
    before = SCRIPT.read_text().splitlines()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder, "--bind", "127.0.0.1"]
        server = started(command, "Ready to accept connections")
        try:
            after = list(record(port, before))
        finally:
            server.terminate()
            server.wait()
    if "--check" in sys.argv:
        sys.exit(int(before != after))
    SCRIPT.write_text("\n".join(after) + "\n")


main()
