"""
Compares what clients were told (the ledger of a run) with what each node of the cluster shows when they have ended. What was
acknowledged has to be there; what is unknown may be there, as a whole; nothing else may.
"""

import redis

from support.workers import LIMIT

SESSION_SECONDS = 600


def check(ports, ledger):
    for node, port in enumerate(ports, 1):
        client = redis.Redis(port=port, decode_responses=True)
        for look in (sessions, leaderboards, limiter, jobs, events):
            try:
                look(client, ledger[look.__name__])
            except AssertionError as error:
                raise AssertionError(f"{look.__name__} at node {node}: {error}") from error


def sessions(client, noted):
    assert noted, "there were none"
    for session in noted:
        key, text = session["key"], client.get(session["key"])
        version = int(text.rpartition("/")[2]) if text else 0
        assert version in (session["certain"], session["tried"]), f"version {version}; {session}"
        assert version not in session["refused"], f"version {version}; {session}"
        assert text in (None, f"{key}/{version}"), f"{key} holds {text}"
        assert text is None or 0 < client.ttl(key) <= SESSION_SECONDS, f"{key} does not expire"


def leaderboards(client, noted):
    for player, told in noted.items():
        certain, open_ = told["scores"], told["open"]
        seen = {board: int(client.zscore(board, player) or 0) for board in {*certain, *open_}}
        # What is unknown has happened on all of its boards, or on none.
        both = {board: certain.get(board, 0) + open_.get(board, 0) for board in seen}
        assert seen in ({board: certain.get(board, 0) for board in seen}, both), f"{player} has {seen}; {told}"


def limiter(client, noted):
    for window, told in noted.items():
        granted = int(client.get(f"limit:{window}") or 0)
        users = sum(map(int, client.hvals(f"limit:{window}:users")))
        tickets, seen = told["tickets"], f"window {window}: {granted} granted, {users} by user; {told}"
        assert granted <= LIMIT and granted == users, seen
        assert granted == LIMIT or not told["denied"], seen
        assert len(tickets) <= granted <= len(tickets) + told["open"], seen
        assert len(set(tickets)) == len(tickets) and all(1 <= ticket <= granted for ticket in tickets), seen


def jobs(client, noted):
    pushed, open_ = set(noted["pushed"]), set(noted["open"])
    left = client.lrange("jobs:queue", 0, -1)
    for key in client.keys("jobs:doing:*"):
        left += client.lrange(key, 0, -1)
    # An unknown push may happen when everybody has gone home.
    assert set(left) <= open_, f"left behind: {left}"
    runs = {job: int(count) for job, count in client.hgetall("jobs:runs").items()}
    assert pushed <= set(runs), f"lost: {sorted(pushed - set(runs))}"
    assert set(runs) <= pushed | open_, f"nobody has pushed {sorted(set(runs) - pushed - open_)}"
    assert set(runs.values()) == {1}, f"finished more than once: {[job for job, count in runs.items() if count != 1]}"
    assert int(client.get("jobs:done")) == len(runs), f"{client.get('jobs:done')} counted, {len(runs)} finished"
    assert set(runs) <= set(noted["ran"]), "some were finished by nobody"


def events(client, noted):
    there = {entry: int(fields["n"]) for entry, fields in client.xrange("events")}
    added, open_ = noted["added"], noted["open"]
    assert added.items() <= there.items(), f"lost: {sorted(added.items() - there.items())}"
    unknown = [number for entry, number in there.items() if entry not in added]
    assert len(set(unknown)) == len(unknown) and set(unknown) <= set(open_), f"not added by anybody: {unknown}; {open_}"
    skipped = set(added) - set(noted["processed"])
    assert not skipped, f"not processed: {sorted(skipped)}"
    assert set(noted["processed"]) <= set(there), "an entry was read that is not there"
    pending = client.xpending("events", "readers")["pending"]
    assert pending == 0, f"{pending} are pending"
