"""A client for measurements that sends what it is told and nothing else; and what one feels beside something else."""

import contextlib
import socket
import subprocess
import tempfile
import threading
import time


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
        return self.pipeline([text])[0]

    def pipeline(self, texts):
        requests = [text.split() for text in texts]
        out = [f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words) for words in requests]
        self.socket.sendall("".join(out).encode())
        return [self.reply() for _ in requests]


class Beside(threading.Thread):
    """Writes a key all the time, and keeps how long each time took."""

    def __init__(self, port, key):
        super().__init__(daemon=True)
        self.client, self.key, self.took, self.over = Client(port), key, [], False

    def run(self):
        while not self.over:
            begin = time.perf_counter()
            self.client.call(f"SET {self.key} 1")
            self.took.append((time.perf_counter() - begin) * 1e3)

    def taken(self):
        """The milliseconds since the last time this was asked, sorted."""
        took, self.took = self.took, []
        return sorted(took)

    def stop(self):
        self.over = True
        self.join()
        return self.taken()


@contextlib.contextmanager
def redis_server(port):
    """Debian's, on that port, keeping nothing."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while True:
                try:
                    Client(port)
                    break
                except OSError:
                    assert server.poll() is None, "redis-server does not start"
                    time.sleep(0.05)
            yield port
        finally:
            server.terminate()
            server.wait()
