#!/usr/bin/env python3
"""Records the replies of a real memcached 1.6 into the scripts of tests/memcached.rs.

    tests/memcached/record.py             rewrite the replies of every script
    tests/memcached/record.py --check     compare only; exit 1 if a reply differs
    tests/memcached/record.py --at HOST:PORT --check     compare with whatever listens there

The server is started here, on a free port, and stopped by its pid. Scripts (*.script beside this file) consist of:

    ## text               a comment
    # cas NAME            the unique number in the next reply is a variable
    # here                no memcached says the next reply: it is left as it is
    > set k 5 0 1\\r\\nx\\r\\n    bytes to be sent, with \\r, \\n, \\t, \\xHH and \\\\; {NAME} is a variable, {300*x} are 300 times x
    < STORED\\r\\n           what comes back until all is answered, which `mn` behind it tells; (closed) at the end: the connection was

Every script begins with flush_all.
"""

import pathlib
import re
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.started import started  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
END = b"MN\r\n"


def expand(text, names):
    text = re.sub(r"\{(\d+)\*(.)\}", lambda m: int(m[1]) * m[2], text)
    text = re.sub(r"\{([a-z]+)\}", lambda m: names[m[1]], text)
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def escape(raw):
    text = raw.decode("latin-1").encode("unicode_escape").decode("ascii")
    return re.sub(r"(.)\1{99,}", lambda m: "{%d*%s}" % (len(m[0]), m[1]), text)


class Connection:
    def __init__(self, address):
        self.address = address
        self.socket = None

    def ask(self, raw):
        """What comes back, and whether the connection is still there."""
        if self.socket is None:
            self.socket = socket.create_connection(self.address, timeout=20)
        try:
            self.socket.sendall(raw + b"mn\r\n")
        except OSError:
            pass
        seen = b""
        while not seen.endswith(END):
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                self.socket = None
                return seen, False
            seen += more
        return seen[: -len(END)], True


def record(path, address):
    connection = Connection(address)
    connection.ask(b"flush_all\r\n")
    names, cas, here, out = {}, None, False, []
    lines = path.read_text().split("\n")
    for at, line in enumerate(lines):
        if line.startswith("< "):
            if here:
                out.append(line)
            here = here and not line.startswith("< ")
            continue
        out.append(line)
        if line.startswith("# cas "):
            cas = line.removeprefix("# cas ")
        elif line == "# here":
            here = True
        elif line.startswith("> ") and not here:
            raw, open_still = connection.ask(expand(line[2:], names))
            reply = escape(raw)
            if cas:
                found = re.search(r"(?<= c)\d+|(?<=cas=)\d+|(?<=VALUE )(?:\S+ \d+ \d+ )(\d+)", reply)
                number = found[1] or found[0]
                names[cas] = number
                start = found.start(1) if found[1] else found.start()
                reply = reply[:start] + "{" + cas + "}" + reply[start + len(number) :]
                cas = None
            for name, number in names.items():
                reply = re.sub(r"\b%s\b(?=\\r)" % number, "{" + name + "}", reply) if len(number) > 3 else reply
            out.append("< " + reply + ("" if open_still else "(closed)"))
    return "\n".join(out)


def main():
    args = sys.argv[1:]
    server = None
    if "--at" in args:
        host, port = args[args.index("--at") + 1].rsplit(":", 1)
        address = (host, int(port))
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = free.getsockname()
        user = ["-u", "root"]
        # It says so only where it says much.
        command = ["memcached", "-vv", "-l", address[0], "-p", str(address[1]), "-U", "0", "-I", "64m", "-m", "512", *user]
        server = started(command, "server listening")
    try:
        differ = 0
        for path in sorted(HERE.glob("*.script")):
            before, after = path.read_text(), record(path, address)
            if "--check" in args:
                for old, new in zip(before.split("\n"), after.split("\n")):
                    if old != new:
                        differ += 1
                        print(f"{path.name}:\n  {old}\n  {new}")
            else:
                path.write_text(after)
        return 1 if differ else 0
    finally:
        if server:
            server.kill()
            server.wait()


sys.exit(main())
