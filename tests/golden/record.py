#!/usr/bin/env python3
"""Records the replies of a real redis-server into the golden scripts.

    tests/golden/record.py             rewrite the expected replies of every script
    tests/golden/record.py --check     compare only; exit 1 if a reply differs

The server is started here, on a free port in a temporary directory, and
stopped by its pid. Scripts (*.script next to this file) consist of:

    ## text              a comment
    # directive          how to read the reply of the next command, one of
        # any                any reply; recorded as *
        # sorted             sort every array that holds no other array
        # between A B        an integer from A to B; recorded as (integer) A..B
        # mask K...          replace the values of these map keys by *
        # scan               follow the SCAN cursor to its end; one sorted array
        # until REPLY        repeat the command until it answers REPLY
    c1> SET key "a\\x00b"  a command of connection c1, quoted as in redis-cli,
                         but with double quotes only
    OK                   its reply, in one line
    2: (nil)             its reply in RESP2, and
    3: (null)            in RESP3, where the two differ

Every script runs twice, in RESP2 and after HELLO 3, each time on connections
of its own, and begins with FLUSHALL. tests/golden.rs replays the scripts.
"""

import pathlib
import re
import socket
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support.started import started  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
VERSION = "7.0."
PATIENCE = 20.0
COMMAND = re.compile(r"(c\d+)> (.*)")
DIRECTIVES = {"any", "sorted", "between", "mask", "scan", "until"}
MARKS = {b"*": "", b"~": "~", b">": ">"}
ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "b": b"\b", "a": b"\a"}


class Text:
    """A reply with nothing inside: already rendered."""

    def __init__(self, text):
        self.text = text


class List:
    """An array, set or push; `mark` tells them apart."""

    def __init__(self, mark, items):
        self.mark = mark
        self.items = items


class Map:
    def __init__(self, pairs):
        self.pairs = pairs


def quote(data):
    named = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
    out = []
    for byte in data:
        if byte in named:
            out.append(named[byte])
        elif 0x20 <= byte <= 0x7E:
            out.append(chr(byte))
        else:
            out.append(f"\\x{byte:02x}")
    return '"' + "".join(out) + '"'


def error_text(data):
    """An error's text, its quotes left bare and a trailing blank made visible."""
    text = quote(data)[1:-1].replace('\\"', '"')
    return text[:-1] + "\\x20" if text.endswith(" ") else text


def render(reply):
    if isinstance(reply, Text):
        return reply.text
    if isinstance(reply, int):
        return f"(integer) {reply}"
    if isinstance(reply, bytes):
        return quote(reply)
    if isinstance(reply, List):
        return reply.mark + "[" + ", ".join(map(render, reply.items)) + "]"
    return "{" + ", ".join(f"{render(k)}: {render(v)}" for k, v in reply.pairs) + "}"


class Connection:
    def __init__(self, port, protocol):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.socket.makefile("rb")
        if protocol == 3 and not isinstance(self.call([b"HELLO", b"3"]), Map):
            raise RuntimeError("HELLO 3 was refused")

    def call(self, args):
        parts = [b"*%d\r\n" % len(args)]
        parts += [b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args]
        self.socket.sendall(b"".join(parts))
        return self.read()

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise RuntimeError("the server closed the connection")
        return line[:-2]

    def blob(self, size):
        data = self.file.read(size + 2)
        if len(data) != size + 2 or data[size:] != b"\r\n":
            raise RuntimeError("the server sent a malformed string")
        return data[:size]

    def read(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            word = re.fullmatch(rb"[A-Za-z]+", rest)
            return Text(rest.decode() if word else "(simple) " + quote(rest))
        if kind == b"-":
            return Text("(error) " + error_text(rest))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return Text("(nil)") if rest == b"-1" else self.blob(int(rest))
        if kind == b"*" and rest == b"-1":
            return Text("(nil-array)")
        if kind in MARKS:
            return List(MARKS[kind], [self.read() for _ in range(int(rest))])
        if kind == b"%":
            return Map([(self.read(), self.read()) for _ in range(int(rest))])
        if kind == b"_":
            return Text("(null)")
        if kind == b"#":
            return Text({b"t": "(true)", b"f": "(false)"}[rest])
        if kind == b",":
            return Text("(double) " + rest.decode())
        if kind == b"(":
            return Text("(big) " + rest.decode())
        if kind == b"!":
            return Text("(bulk-error) " + quote(self.blob(int(rest))))
        if kind == b"=":
            return Text("(verbatim) " + quote(self.blob(int(rest))))
        raise RuntimeError(f"not a RESP reply: {line!r}")


def double_quoted(text, at):
    """Reads up to the closing quote; returns the bytes and where it ended."""
    out = bytearray()
    while at < len(text) and text[at] != '"':
        if text[at] != "\\":
            out += text[at].encode()
            at += 1
        elif text[at + 1 : at + 2] == "x":
            if not re.match("[0-9a-fA-F]{2}", text[at + 2 :]):
                raise ValueError("\\x without two hexadecimal digits")
            out.append(int(text[at + 2 : at + 4], 16))
            at += 4
        else:
            escaped = text[at + 1 : at + 2]
            out += ESCAPES.get(escaped, escaped.encode())
            at += 2
    return bytes(out), at


def split(text):
    """Splits a command as redis-cli does, but knows double quotes only."""
    args, at = [], 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        if text[at] == '"':
            arg, end = double_quoted(text, at + 1)
            if end >= len(text) or text[end + 1 : end + 2] not in ("", " "):
                raise ValueError("unbalanced quotes")
            at = end + 1
        else:
            end = at
            while end < len(text) and text[end] != " ":
                end += 1
            arg = text[at:end].encode()
            if b'"' in arg or b"'" in arg:
                raise ValueError("a quote inside a bare word")
            at = end
        args.append(arg)
    if not args:
        raise ValueError("an empty command")
    return args


def scan(connection, args):
    """The sorted, distinct elements of a whole SCAN iteration."""
    found = {}
    for _ in range(100_000):
        reply = connection.call(args)
        if not isinstance(reply, List) or len(reply.items) != 2:
            return reply
        cursor, page = reply.items
        found.update((render(item), item) for item in page.items)
        if cursor == b"0":
            return List("", [found[text] for text in sorted(found)])
        args = [args[0], cursor, *args[2:]]
    raise RuntimeError("SCAN does not come to an end")


def until(connection, args, wanted):
    deadline = time.monotonic() + PATIENCE
    while True:
        reply = connection.call(args)
        if render(reply) == wanted or time.monotonic() > deadline:
            return reply


def in_order(reply):
    if not isinstance(reply, List):
        return reply
    if any(isinstance(item, (List, Map)) for item in reply.items):
        return List(reply.mark, [in_order(item) for item in reply.items])
    return List(reply.mark, sorted(reply.items, key=render))


def masked(reply, keys):
    def value(key, old):
        return Text("*") if isinstance(key, bytes) and key.decode() in keys else old

    if isinstance(reply, Map):
        return Map([(key, value(key, old)) for key, old in reply.pairs])
    if isinstance(reply, List) and len(reply.items) % 2 == 0:
        items = list(reply.items)
        for at in range(0, len(items), 2):
            items[at + 1] = value(items[at], items[at + 1])
        return List(reply.mark, items)
    return reply


def answer(connection, args, directive):
    """The recorded line of one command; an out-of-range reply is an error."""
    name, _, rest = directive.partition(" ")
    if name == "scan":
        return render(scan(connection, args))
    if name == "until":
        reply = until(connection, args, rest)
        if render(reply) != rest:
            raise RuntimeError(f"expected {rest} in the end, got {render(reply)}")
        return rest
    reply = connection.call(args)
    if name == "any":
        return "*"
    if name == "between":
        low, high = map(int, rest.split())
        if not isinstance(reply, int) or not low <= reply <= high:
            raise RuntimeError(f"expected {low}..{high}, got {render(reply)}")
        return f"(integer) {low}..{high}"
    if name == "sorted":
        return render(in_order(reply))
    return render(masked(reply, rest.split()) if name == "mask" else reply)


def commands(lines):
    """Yields (line index, connection, arguments, directive)."""
    directive = ""
    for index, line in enumerate(lines):
        command = COMMAND.fullmatch(line)
        if command:
            yield index, command[1], split(command[2]), directive
            directive = ""
        elif line.startswith("# "):
            directive = line[2:]
            if directive.split()[0] not in DIRECTIVES:
                raise ValueError(f"line {index + 1}: unknown directive")
        elif line.startswith("#") and not line.startswith("## "):
            raise ValueError(f"line {index + 1}: neither a directive nor a comment")


def replay(lines, port, protocol):
    """Maps the line index of each command to its reply."""
    connections, replies = {}, {}
    for index, name, args, directive in commands(lines):
        if not replies and args != [b"FLUSHALL"]:
            raise ValueError("the first command is not FLUSHALL")
        if name not in connections:
            connections[name] = Connection(port, protocol)
        try:
            replies[index] = answer(connections[name], args, directive)
        except (RuntimeError, OSError) as error:
            raise RuntimeError(f"line {index + 1}: RESP{protocol}: {error}") from error
    return replies


def recorded(path, port):
    """The script's text with the replies of this server in place."""
    lines = path.read_text().splitlines()
    two, three = replay(lines, port, 2), replay(lines, port, 3)
    out = []
    for index, line in enumerate(lines):
        if index in two:
            same = two[index] == three[index]
            out += [line]
            out += [two[index]] if same else [f"2: {two[index]}", f"3: {three[index]}"]
        elif line == "" or line.startswith("#"):
            out.append(line)
    return "\n".join(out) + "\n", len(two)


def start_server(directory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory]
    command = ["redis-server", "--port", str(port), *options]
    return started(command, "Ready to accept connections"), port


def check_version(port):
    info = Connection(port, 2).call([b"INFO", b"server"]).decode()
    version = re.search(r"redis_version:(\S+)", info)[1]
    if not version.startswith(VERSION):
        raise RuntimeError(f"redis-server is {version}, the scripts are of {VERSION}x")
    return version


def record_all(port, check):
    paths = sorted(HERE.glob("*.script"))
    total, stale = 0, []
    for path in paths:
        try:
            text, count = recorded(path, port)
        except (RuntimeError, ValueError) as error:
            raise SystemExit(f"{path.name}: {error}")
        total += count
        if text != path.read_text():
            stale.append(path.name)
            if not check:
                path.write_text(text)
    print(f"{len(paths)} scripts, {total} commands; changed: {', '.join(stale) or 'none'}")
    return 1 if check and stale or not total else 0


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as directory:
        server, port = start_server(directory)
        try:
            print("redis-server", check_version(port))
            return record_all(port, check)
        finally:
            server.terminate()
            server.wait(timeout=PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
