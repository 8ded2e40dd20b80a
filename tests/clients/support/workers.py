"""
What applications do with Redis, by redis-py: each function here is a worker, in a thread of its own, until the run is stopped. What
must always hold is looked at as it happens; what was acknowledged, and what may or may not have happened, is noted in the ledger,
which ledger.py compares with what is there in the end. applications.mjs does the same by ioredis.
"""

import collections
import itertools
import random
import threading
import time

from support.attempts import Client, Fate, in_multi, whole

SESSIONS = 4  # a writer has at a time
READS_PER_NODE = 5
BOARDS = 4
OPENING = 1000
LIMIT = 25  # grants of a window
BACKLOG = 6  # so few that workers wait
DIES_EVERY = 9  # a worker gives up with work in its hands
IDLE_MS = 300  # after which what a consumer has left is taken by another
LEASE_MS = 1500
OVERSTAYS_EVERY = 4

GRANT = """
local granted = tonumber(redis.call('GET', KEYS[1]) or '0')
if granted >= tonumber(ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
return redis.call('INCR', KEYS[1])
"""
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Session:
    """
    Written by one worker, so it can only have the versions from what is certain to what was tried last. If a write's fate is
    unknown, the session is written no more: that write may land at any later time.
    """

    def __init__(self, key):
        self.key, self.certain, self.tried, self.refused = key, 0, 0, []

    def version(self, text):
        if text is None:
            return 0
        key, _, version = text.rpartition("/")
        assert key == self.key, f"{self.key} holds {text}"
        return int(version)


class Run:
    """What all workers of a run share."""

    def __init__(self, ports):
        self.ports = ports
        self.mutex = threading.RLock()
        self.stop, self.failed = threading.Event(), threading.Event()
        # No more of them are coming.
        self.produced = {"jobs": threading.Event(), "events": threading.Event()}
        self.failures, self.threads = [], []
        self.work, self.outcomes = collections.Counter(), collections.Counter()
        self.sessions, self.players = [], {}
        self.windows = collections.defaultdict(lambda: {"tickets": [], "open": 0, "denied": False})
        self.jobs = {"pushed": [], "open": [], "ran": collections.Counter(), "unsure": set()}
        self.events = {"added": {}, "open": [], "delivered": set(), "processed": set(), "acked": set()}
        self.holders = {}

    def note(self, word):
        with self.mutex:
            self.outcomes[word] += 1

    def did(self, what):
        with self.mutex:
            self.work[what] += 1

    def ends(self):
        return self.stop.is_set() or self.failed.is_set()

    def wait_until(self, holds):
        """Until that holds, or the run ends."""
        while not (self.ends() or holds()):
            self.stop.wait(0.002)

    def start(self, worker, n):
        def body():
            try:
                worker(self, Client(self, n), n)
            except BaseException as error:
                self.failures.append(error)
                self.failed.set()

        self.threads.append(threading.Thread(target=body, name=f"{worker.__name__} {n}", daemon=True))
        self.threads[-1].start()

    def ledger(self):
        sessions = [vars(session) for session in self.sessions]
        jobs = {"pushed": self.jobs["pushed"], "open": self.jobs["open"], "ran": dict(self.jobs["ran"])}
        events = {"added": self.events["added"], "open": self.events["open"], "processed": sorted(self.events["processed"])}
        return {"sessions": sessions, "leaderboards": self.players, "limiter": dict(self.windows), "jobs": jobs, "events": events}


def prepare(run):
    """What has to be there before the first worker starts, while all nodes are up."""
    client = Client(run, 0).redis
    client.xgroup_create("events", "readers", "$", mkstream=True)


def start(run):
    workers = [(stores_sessions, 2), (reads_sessions, 1), (plays, 2), (watches_league, 1), (asks_limiter, 2)]
    workers += [(pushes_jobs, 1), (works_off, 2), (adds_events, 1), (consumes, 2), (locks, 3)]
    for worker, count in workers:
        for n in range(count):
            run.start(worker, n)


# ---------------------------------------------------------------------------------------------------------- sessions


def stores_sessions(run, client, n):
    names, live = itertools.count(), []
    while not run.ends():
        if len(live) < SESSIONS:
            live.append(Session(f"session:{n}:{next(names)}"))
            with run.mutex:
                run.sessions.append(live[-1])
        session = random.choice(live)
        with run.mutex:
            session.tried += 1
        version = session.tried
        fate, _ = client.attempt(lambda r: r.set(session.key, f"{session.key}/{version}", ex=600))
        with run.mutex:
            if fate is Fate.DONE:
                session.certain = version
                run.work["sessions"] += 1
            elif fate is Fate.REFUSED:
                session.refused.append(version)
            else:
                live.remove(session)


def reads_sessions(run, client, n):
    for turn in itertools.count():
        if run.ends():
            return
        with run.mutex:
            session = random.choice(run.sessions) if run.sessions else None
            certain = session and session.certain
        if session is None:
            continue
        fate, text = client.attempt(lambda r: r.get(session.key))
        if fate is Fate.DONE:
            version = session.version(text)
            with run.mutex:
                seen = f"{session.key} had version {version}; {vars(session)}, {certain} was certain before the read"
                assert certain <= version <= session.tried and version not in session.refused, seen
                # What has been read once must not go away again.
                session.certain = max(session.certain, version)
            run.did("reads")
        if turn % READS_PER_NODE == 0:
            client.next_node()


# ------------------------------------------------------------------------------------------------------ leaderboards


def plays(run, client, n):
    """
    Wins points on the week's boards, one at a time; moves points between boards of the league, in one transaction. When it is unknown
    whether that has happened, it goes on as another player.
    """
    names, told = itertools.count(), None
    for turn in itertools.count():
        if run.ends():
            return
        if told is None:
            player = f"player:{n}:{next(names)}"
            told = enters(run, client, player)
        points = random.randrange(1, 1000)
        if turn % 2 == 0:
            deltas = {f"week:{turn // 2 % BOARDS}": points}
            ((week, _),) = deltas.items()
            fate, _ = client.attempt(lambda r: r.zincrby(week, points, player))
        else:
            source, target = (f"league:{board}" for board in random.sample(range(BOARDS), 2))
            deltas = {source: -points, target: points}
            loses, wins = lambda p: p.zincrby(source, -points, player), lambda p: p.zincrby(target, points, player)
            fate, _ = client.attempt(in_multi(loses, wins))
        if fate is Fate.DONE:
            for board, delta in deltas.items():
                told["scores"][board] += delta
            run.did("points")
        elif fate is Fate.UNKNOWN:
            told["open"] = deltas
            told = None


def enters(run, client, player):
    opening = {f"league:{board}": OPENING for board in range(BOARDS)}
    adds = (lambda p, board=board: p.zadd(board, {player: OPENING}, nx=True) for board in opening)
    client.until_done(in_multi(*adds))
    with run.mutex:
        run.players[player] = {"scores": collections.Counter(opening), "open": {}}
    return run.players[player]


def watches_league(run, client, n):
    def look(board, player):
        return lambda pipe: pipe.zscore(f"league:{board}", player)

    for turn in itertools.count():
        if run.ends():
            return
        with run.mutex:
            players = list(run.players)
        if not players:
            continue
        player = random.choice(players)
        fate, scores = client.attempt(in_multi(*(look(board, player) for board in range(BOARDS))))
        if fate is Fate.DONE:
            assert sum(scores) == BOARDS * OPENING, f"points were lost or made on their way: {scores}"
            run.did("looks")
        if turn % READS_PER_NODE == 0:
            client.next_node()


# ------------------------------------------------------------------------------------------------------ rate limiter


def asks_limiter(run, client, n):
    grant = client.redis.register_script(GRANT)
    window = 0
    while not run.ends():
        keys, args = [f"limit:{window}", f"limit:{window}:users"], [LIMIT, f"user:{n}"]
        fate, ticket = client.attempt(lambda r: grant(keys, args, client=r))
        with run.mutex:
            noted = run.windows[window]
            if fate is Fate.UNKNOWN:
                noted["open"] += 1
            elif fate is Fate.DONE and ticket > 0:
                assert ticket <= LIMIT and ticket not in noted["tickets"], f"window {window}: {ticket} was granted; {noted}"
                noted["tickets"].append(ticket)
                run.work["grants"] += 1
            elif fate is Fate.DONE:
                noted["denied"] = True
                window += 1


# --------------------------------------------------------------------------------------------------------- job queue


def pushes_jobs(run, client, n):
    jobs = run.jobs
    for name in map("job:{}".format, itertools.count()):
        run.wait_until(lambda: len(jobs["pushed"]) - len(jobs["ran"]) < BACKLOG)
        if run.ends():
            run.produced["jobs"].set()
            return
        fate, _ = client.attempt(lambda r: r.rpush("jobs:queue", name))
        if fate is not Fate.REFUSED:
            jobs["pushed" if fate is Fate.DONE else "open"].append(name)


def works_off(run, client, n):
    """Ends when nothing is left, neither in the queue nor in its own list."""
    own, left, taken = f"jobs:doing:{n}", [], 0
    recovers = True  # whoever begins looks first for what it has left behind
    while not run.failed.is_set():
        if recovers:
            left = client.until_done(lambda r: r.lrange(own, 0, -1))
            recovers = False
        elif left:
            recovers = finishes(run, client, own, left.pop(0)) is not Fate.DONE
        else:
            last = run.produced["jobs"].is_set()
            fate, job = client.attempt(lambda r: r.blmove("jobs:queue", own, 0.2, "LEFT", "RIGHT"))
            # A job may have been moved that this worker was not told of.
            recovers = fate is Fate.UNKNOWN
            if last and fate is Fate.DONE and job is None:
                # An earlier move whose fate was unknown may have happened since.
                left = client.until_done(lambda r: r.lrange(own, 0, -1))
                if not left:
                    return
            if job is not None:
                taken += 1
                left = [job]
                if taken % DIES_EVERY == 0:
                    # As a worker that dies with a job in its hands, and is started again.
                    client.next_node()
                    left, recovers = [], True


def finishes(run, client, own, job):
    """
    Takes a job off the list and counts it, once. The WATCH is for an earlier try whose fate is unknown: if that happens after all,
    only one of them does.
    """
    run.jobs["ran"][job] += 1

    def transaction(r):
        with r.pipeline() as pipe:
            pipe.watch(own)
            if job not in pipe.lrange(own, 0, -1):
                return "gone"
            pipe.multi()
            pipe.lrem(own, 1, job)
            pipe.incr("jobs:done")
            pipe.hincrby("jobs:runs", job, 1)
            return whole(pipe)

    fate, replies = client.attempt(transaction)
    if replies == "gone":
        assert job in run.jobs["unsure"], f"{job} is not in {own}, and nobody has finished it"
    elif fate is Fate.DONE:
        assert (replies[0], replies[2]) == (1, 1), f"{job} was finished twice: {replies}"
        run.did("jobs")
    elif fate is Fate.UNKNOWN:
        run.jobs["unsure"].add(job)
    return fate


# ------------------------------------------------------------------------------------------------ stream and readers


def adds_events(run, client, n):
    events = run.events
    for number in itertools.count():
        run.wait_until(lambda: len(events["added"]) - len(events["processed"]) < BACKLOG)
        if run.ends():
            run.produced["events"].set()
            return
        fate, entry = client.attempt(lambda r: r.xadd("events", {"n": number}))
        with run.mutex:
            if fate is Fate.DONE:
                assert entry not in events["added"], f"{entry} was given twice"
                events["added"][entry] = number
            elif fate is Fate.UNKNOWN:
                events["open"].append(number)


def consumes(run, client, n):
    """Reads what is new and, in turn, what others have left; ends when nothing is pending. Now and then it drops what it has read."""
    consumer, events = f"consumer:{n}", run.events
    for turn in itertools.count(1):
        if run.failed.is_set():
            return
        last = run.produced["events"].is_set()
        claims = turn % 4 == 0
        if claims:
            idle = 1 if last else IDLE_MS
            fate, reply = client.attempt(lambda r: r.xautoclaim("events", "readers", consumer, idle, "0-0", 10))
            entries = reply[1] if reply else []
        else:
            fate, reply = client.attempt(lambda r: r.xreadgroup("readers", consumer, {"events": ">"}, count=3, block=100))
            entries = entries_of(reply)
            with run.mutex:
                twice = events["delivered"].intersection(entry for entry, _ in entries)
                assert not twice, f"{twice} were given as new twice"
                events["delivered"].update(entry for entry, _ in entries)
        if last and not claims and fate is Fate.DONE and not entries:
            if client.until_done(lambda r: r.xpending("events", "readers"))["pending"] == 0:
                return
        if entries and turn % DIES_EVERY == 0 and not last:
            client.next_node()
            continue
        for entry, _ in entries:
            acknowledges(run, client, entry)


def entries_of(reply):
    """Of what XREADGROUP replies for one stream: a list in RESP2, a map in RESP3."""
    if not reply:
        return []
    if isinstance(reply, dict):
        (batches,) = reply.values()
        return batches[0] if batches and isinstance(batches[0], list) else batches
    return reply[0][1]


def acknowledges(run, client, entry):
    with run.mutex:
        run.events["processed"].add(entry)
    fate, count = client.attempt(lambda r: r.xack("events", "readers", entry))
    if fate is Fate.DONE and count == 1:
        with run.mutex:
            assert entry not in run.events["acked"], f"{entry} was acknowledged twice"
            run.events["acked"].add(entry)
            run.work["events"] += 1


# -------------------------------------------------------------------------------------------------------------- lock


def locks(run, client, n):
    """
    Worker 0 stays too long now and then: somebody else has the lock by then, and has to keep it when worker 0 releases what it no
    longer has.
    """
    release, held = client.redis.register_script(RELEASE), 0
    for turn in itertools.count(1):
        token = f"{n}:{turn}"
        if run.ends():
            return
        asked = time.monotonic()
        fate, got = client.attempt(lambda r: r.set("lock", token, nx=True, px=LEASE_MS))
        if fate is Fate.UNKNOWN:
            got = client.until_done(lambda r: r.get("lock")) == token
        if not got:
            run.wait_until(lambda: client.until_done(lambda r: r.get("lock")) is None)
            continue
        ends = asked + LEASE_MS / 1000
        holds(run, n, ends)
        held += 1
        overstays = n == 0 and held % OVERSTAYS_EVERY == 0
        if overstays:
            while client.until_done(lambda r: r.get("lock")) in (token, None) and not run.ends():
                pass
        else:
            client.attempt(lambda r: r.incr("lock:entered"))
        with run.mutex:
            run.holders.pop(n)
            run.work["locks"] += 1
        fate, released = client.attempt(lambda r: release(["lock"], [token], client=r))
        if fate is Fate.DONE and time.monotonic() < ends:
            assert released == 1, f"somebody else has released the lock of {token}"
        if fate is Fate.DONE and overstays and not run.ends():
            assert released == 0, f"{token} was over, and was released"
            run.did("overstays")


def holds(run, n, ends):
    """From the reply to the acquisition until the release is asked for, or until the lease that was asked for has passed."""
    with run.mutex:
        now = time.monotonic()
        others = {other for other, end in run.holders.items() if end > now}
        assert not others or ends <= now, f"{n} and {others} hold the lock"
        run.holders[n] = ends
