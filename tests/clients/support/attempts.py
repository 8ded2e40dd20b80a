"""A redis-py client that goes on to the next node when its connection breaks, and knows what an error means."""

import enum

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# More than any request takes that does not hang: a gateway gives up after 10 s.
SOCKET_SECONDS = 30


class Fate(enum.Enum):
    DONE = "done"
    REFUSED = "refused"  # certainly not executed
    UNKNOWN = "unknown"  # executed, or not, or yet to be executed


def fate_of(error):
    """What has become of a request that was answered with this error, and the word it is counted by. Errors that tell nothing are raised."""
    if isinstance(error, redis.exceptions.TryAgainError):
        return Fate.REFUSED, "TRYAGAIN"
    if isinstance(error, redis.exceptions.ClusterDownError):
        return Fate.REFUSED, "CLUSTERDOWN"
    if str(error).startswith("ABORTED "):
        return Fate.REFUSED, "ABORTED"
    if str(error).startswith("UNKNOWN "):
        return Fate.UNKNOWN, "UNKNOWN"
    if isinstance(error, redis.WatchError):
        # Under a WATCH redis-py says WatchError also where the connection broke, be it after EXEC was sent.
        return (Fate.UNKNOWN, "broken") if " occurred while watching " in str(error) else (Fate.REFUSED, "changed")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        # Where there was no connection, nothing was sent. redis-py has no type for this, only these words.
        return (Fate.REFUSED, "not connected") if " connecting to " in str(error) else (Fate.UNKNOWN, "broken")
    raise error


class Client:
    """
    Sends what it is given once. Libraries send again by themselves what a broken connection has left open, which may do a thing twice:
    whoever counts must not let them.
    """

    def __init__(self, run, first):
        self.run, self.turn = run, first
        self.open()

    def open(self):
        port = self.run.ports[self.turn % len(self.run.ports)]
        once = Retry(NoBackoff(), 0)
        self.redis = redis.Redis(port=port, decode_responses=True, retry=once, socket_timeout=SOCKET_SECONDS)

    def next_node(self):
        self.redis.close()
        self.turn += 1
        self.open()

    def attempt(self, request):
        """The fate of `request(redis)`, and its reply if it was done. """
        try:
            reply = request(self.redis)
        except redis.RedisError as error:
            fate, word = fate_of(error)
            self.run.note(word)
            if word in ("not connected", "broken"):
                self.next_node()
            return fate, None
        self.run.note("done")
        return Fate.DONE, reply

    def until_done(self, request):
        """For requests that may be executed any number of times: reads, above all."""
        while True:
            fate, reply = self.attempt(request)
            if fate is Fate.DONE:
                return reply


def in_multi(*commands):
    """
    A request that runs commands (each a function of a pipeline) as one transaction. It is done as a whole or not at all, so an
    error among the replies is none that may happen.
    """

    def request(client):
        with client.pipeline() as pipe:
            for command in commands:
                command(pipe)
            return whole(pipe)

    return request


def whole(pipe):
    replies = pipe.execute(raise_on_error=False)
    errors = [reply for reply in replies if isinstance(reply, Exception)]
    assert not errors, f"a transaction was done in part: {replies}"
    return replies
