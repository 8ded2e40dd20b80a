#!/usr/bin/env python3
"""Writes src/gateway/facts.txt anew: what redis-server 7.0 says of its commands (COMMAND, COMMAND DOCS). `--check` compares.

A line is a command or, as `name|sub`, a subcommand; `-` stands for nothing:

    name  since  group  arity  first,last,step  flags  ACL categories  tips  key specs

A key spec is `flags:begin:find`. begin: `iN` (the N-th word), `kWORD,N` (behind WORD, searched from the N-th on), `u` (unknown);
find: `rLAST,STEP,LIMIT`, `nAT,FIRST,STEP` (a number of keys), `u`. tests/commands.rs compares all of it with the server again.
"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from record import PATIENCE, Connection, List, Map, Text, check_version, start_server  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parents[2] / "src/gateway/facts.txt"


def plain(reply):
    if isinstance(reply, Map):
        return {plain(k): plain(v) for k, v in reply.pairs}
    if isinstance(reply, List):
        return [plain(item) for item in reply.items]
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, Text):
        text = reply.text.removeprefix("(simple) ")
        return text.strip('"')
    return reply


def joined(items, mark=","):
    return mark.join(str(item) for item in items) or "-"


def key_spec(spec):
    begin, find = spec["begin_search"], spec["find_keys"]
    begin = {
        "index": lambda s: f"i{s['index']}",
        "keyword": lambda s: f"k{s['keyword']},{s['startfrom']}",
        "unknown": lambda s: "u",
    }[begin["type"]](begin["spec"])
    find = {
        "range": lambda s: f"r{s['lastkey']},{s['keystep']},{s['limit']}",
        "keynum": lambda s: f"n{s['keynumidx']},{s['firstkey']},{s['keystep']}",
        "unknown": lambda s: "u",
    }[find["type"]](find["spec"])
    return f"{joined(spec['flags'])}:{begin}:{find}"


def lines(rows, docs):
    for row in sorted(rows, key=lambda row: row[0]):
        name, arity, flags, first, last, step, categories, tips, specs, subs = row
        about = docs[name]
        yield " ".join([
            name,
            about["since"],
            about["group"],
            str(arity),
            f"{first},{last},{step}",
            joined(flags),
            joined(category.removeprefix("@") for category in categories),
            joined(tips),
            joined(map(key_spec, specs), ";"),
        ])
        yield from lines(subs, about.get("subcommands", {}))


def main():
    with tempfile.TemporaryDirectory() as directory:
        server, port = start_server(directory)
        try:
            check_version(port)
            connection = Connection(port, 3)
            rows = plain(connection.call([b"COMMAND"]))
            docs = plain(connection.call([b"COMMAND", b"DOCS"]))
        finally:
            server.terminate()
            server.wait(timeout=PATIENCE)
    text = "\n".join(lines(rows, docs)) + "\n"
    if "--check" in sys.argv:
        sys.exit(text != OUT.read_text())
    OUT.write_text(text)


main()
