// What applications do with Redis, by ioredis: the same workers as in workers.py, which says more about each. applications.py
// starts this in a folder with ioredis in it, with the ports of all nodes, and kills nodes until it ends the input. Every line
// of output is JSON of what has been done; the last one has the ledger.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.cwd(), 'package.json'));
const Redis = require('ioredis');

const PORTS = process.argv.slice(2).map(Number);
const SESSIONS = 4;
const READS_PER_NODE = 5;
const BOARDS = 4;
const OPENING = 1000;
const LIMIT = 25;
const BACKLOG = 6;
const DIES_EVERY = 9;
const IDLE_MS = 300;
const LEASE_MS = 1500;
const OVERSTAYS_EVERY = 4;

const GRANT = `
local granted = tonumber(redis.call('GET', KEYS[1]) or '0')
if granted >= tonumber(ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
return redis.call('INCR', KEYS[1])`;
const RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
const scripts = { grant: { numberOfKeys: 2, lua: GRANT }, release: { numberOfKeys: 1, lua: RELEASE } };

const DONE = 'done';
const REFUSED = 'refused'; // certainly not executed
const UNKNOWN = 'unknown'; // executed, or not, or yet to be executed

const work = { sessions: 0, reads: 0, points: 0, looks: 0, grants: 0, jobs: 0, events: 0, locks: 0, overstays: 0 };
const outcomes = {};
const ledger = { sessions: [], leaderboards: {}, limiter: {}, jobs: { pushed: [], open: [], ran: {} } };
ledger.events = { added: {}, open: [], processed: [] };
const stopped = { all: false, jobs: false, events: false };

const note = what => (outcomes[what] = (outcomes[what] ?? 0) + 1);
const pause = ms => new Promise(done => setTimeout(done, ms));
const below = limit => Math.floor(Math.random() * limit);
const must = (holds, what) => {
  if (!holds) throw new Error(what());
};

// The fate of a request that failed so, and the word it is counted by.
function fateOf(error) {
  const first = error.previousErrors?.[0] ?? error;
  if (first.name === 'ReplyError') {
    const code = first.message.split(' ')[0];
    if (['TRYAGAIN', 'CLUSTERDOWN', 'ABORTED'].includes(code)) return [REFUSED, code];
    if (code === 'UNKNOWN') return [UNKNOWN, code];
    throw error;
  }
  if (error.message.startsWith("Stream isn't writeable")) return [REFUSED, 'not connected'];
  if (/^Connection is closed|^Command aborted due to connection close|ECONNRESET|EPIPE/.test(error.message)) {
    return [UNKNOWN, 'broken'];
  }
  throw error;
}

// Sends what it is given once: ioredis is told not to send it again by itself, which may do a thing twice.
class Client {
  constructor(first) {
    this.turn = first;
  }

  async connect() {
    const once = { retryStrategy: null, enableOfflineQueue: false, autoResendUnfulfilledCommands: false };
    this.redis = new Redis({ host: '127.0.0.1', port: PORTS[this.turn % PORTS.length], lazyConnect: true, scripts, ...once });
    this.redis.on('error', () => {});
    await this.redis.connect();
  }

  nextNode() {
    this.redis?.disconnect();
    this.redis = undefined;
    this.turn++;
  }

  async attempt(request) {
    if (this.redis?.status !== 'ready') {
      this.nextNode();
      try {
        await this.connect();
      } catch {
        note('not connected');
        return [REFUSED, null];
      }
    }
    try {
      const reply = await request(this.redis);
      note(DONE);
      return [DONE, reply];
    } catch (error) {
      const [fate, code] = fateOf(error);
      note(code);
      return [fate, null];
    }
  }

  async untilDone(request) {
    for (;;) {
      const [fate, reply] = await this.attempt(request);
      if (fate === DONE) return reply;
    }
  }
}

// Of a transaction: null if a watched key had changed. It is done as a whole or not at all.
async function whole(multi) {
  const replies = await multi.exec();
  must(!replies?.some(([error]) => error), () => `a transaction was done in part: ${replies}`);
  return replies?.map(([, reply]) => reply);
}

async function storesSessions(client, n) {
  const live = [];
  for (let names = 0; !stopped.all; ) {
    if (live.length < SESSIONS) {
      live.push({ key: `session:${n}:${names++}`, certain: 0, tried: 0, refused: [] });
      ledger.sessions.push(live.at(-1));
    }
    const session = live[below(live.length)];
    const version = ++session.tried;
    const [fate] = await client.attempt(r => r.set(session.key, `${session.key}/${version}`, 'EX', 600));
    if (fate === DONE) {
      session.certain = version;
      work.sessions++;
    } else if (fate === REFUSED) {
      session.refused.push(version);
    } else {
      live.splice(live.indexOf(session), 1); // The write may land at any later time.
    }
  }
}

async function readsSessions(client) {
  for (let turn = 0; !stopped.all; turn++) {
    const session = ledger.sessions[below(ledger.sessions.length)];
    const { key, certain } = session;
    const [fate, text] = await client.attempt(r => r.get(key));
    if (fate === DONE) {
      const version = text === null ? 0 : Number(text.slice(key.length + 1));
      const possible = certain <= version && version <= session.tried && !session.refused.includes(version);
      must(possible, () => `${key} had ${text}; ${JSON.stringify(session)}, ${certain} was certain before the read`);
      must(text === null || text === `${key}/${version}`, () => `${key} had ${text}`);
      session.certain = Math.max(session.certain, version); // What has been read once must not go away again.
      work.reads++;
    }
    if (turn % READS_PER_NODE === 0) client.nextNode();
  }
}

async function plays(client, n) {
  let [names, player, told] = [0];
  for (let turn = 0; !stopped.all; turn++) {
    if (!told) {
      player = `player:${n}:${names++}`;
      told = await enters(client, player);
    }
    const { scores } = told;
    const points = 1 + below(999);
    const source = below(BOARDS);
    const week = `week:${source}`;
    const [loses, wins] = [`league:${source}`, `league:${(source + 1 + below(BOARDS - 1)) % BOARDS}`];
    const deltas = turn % 2 === 0 ? { [week]: points } : { [loses]: -points, [wins]: points };
    const moves = r => whole(r.multi().zincrby(loses, -points, player).zincrby(wins, points, player));
    const [fate] = await client.attempt(turn % 2 === 0 ? r => r.zincrby(week, points, player) : moves);
    if (fate === DONE) {
      for (const [board, delta] of Object.entries(deltas)) scores[board] = (scores[board] ?? 0) + delta;
      work.points++;
    } else if (fate === UNKNOWN) {
      told.open = deltas; // It may happen at any later time: on as another player.
      told = undefined;
    }
  }
}

async function enters(client, player) {
  const scores = {};
  for (let board = 0; board < BOARDS; board++) scores[`league:${board}`] = OPENING;
  const adds = multi => Object.keys(scores).reduce((multi, board) => multi.zadd(board, 'NX', OPENING, player), multi);
  await client.untilDone(r => whole(adds(r.multi())));
  return (ledger.leaderboards[player] = { scores, open: {} });
}

async function watchesLeague(client) {
  for (let turn = 0; !stopped.all; turn++) {
    const players = Object.keys(ledger.leaderboards);
    if (players.length === 0) {
      await pause(2);
      continue;
    }
    const player = players[below(players.length)];
    const look = r => {
      const multi = r.multi();
      for (let board = 0; board < BOARDS; board++) multi.zscore(`league:${board}`, player);
      return whole(multi);
    };
    const [fate, scores] = await client.attempt(look);
    if (fate === DONE) {
      const sum = scores.reduce((sum, score) => sum + Number(score), 0);
      must(sum === BOARDS * OPENING, () => `points were lost or made on their way: ${scores}`);
      work.looks++;
    }
    if (turn % READS_PER_NODE === 0) client.nextNode();
  }
}

async function asksLimiter(client, n) {
  for (let window = 0; !stopped.all; ) {
    const key = `limit:${window}`;
    const noted = (ledger.limiter[window] ??= { tickets: [], open: 0, denied: false });
    const [fate, ticket] = await client.attempt(r => r.grant(key, `${key}:users`, LIMIT, `user:${n}`));
    if (fate === UNKNOWN) {
      noted.open++;
    } else if (fate === DONE && ticket > 0) {
      const fresh = ticket <= LIMIT && !noted.tickets.includes(ticket);
      must(fresh, () => `window ${window}: ${ticket} was granted; ${JSON.stringify(noted)}`);
      noted.tickets.push(ticket);
      work.grants++;
    } else if (fate === DONE) {
      noted.denied = true;
      window++;
    }
  }
}

async function pushesJobs(client) {
  const { pushed, open, ran } = ledger.jobs;
  for (let n = 0; ; n++) {
    while (!stopped.all && pushed.length - Object.keys(ran).length >= BACKLOG) await pause(2);
    if (stopped.all) break;
    const [fate] = await client.attempt(r => r.rpush('jobs:queue', `job:${n}`));
    if (fate !== REFUSED) (fate === DONE ? pushed : open).push(`job:${n}`);
  }
  stopped.jobs = true;
}

const unsure = new Set();

async function worksOff(client, n) {
  const own = `jobs:doing:${n}`;
  let [left, taken, recovers] = [[], 0, true];
  for (;;) {
    if (recovers) {
      left = await client.untilDone(r => r.lrange(own, 0, -1));
      recovers = false;
    } else if (left.length > 0) {
      recovers = (await finishes(client, own, left.shift())) !== DONE;
    } else {
      const last = stopped.jobs;
      const [fate, job] = await client.attempt(r => r.blmove('jobs:queue', own, 'LEFT', 'RIGHT', 0.2));
      recovers = fate === UNKNOWN; // A job may have been moved that this worker was not told of.
      if (last && fate === DONE && job === null) {
        // An earlier move whose fate was unknown may have happened since.
        left = await client.untilDone(r => r.lrange(own, 0, -1));
        if (left.length === 0) return;
      }
      if (job === null) continue;
      left = [job];
      if (++taken % DIES_EVERY === 0) {
        // As a worker that dies with a job in its hands, and is started again.
        client.nextNode();
        [left, recovers] = [[], true];
      }
    }
  }
}

// Takes a job off the list and counts it, once. Of two tries only one can happen, by the WATCH.
async function finishes(client, own, job) {
  const { ran } = ledger.jobs;
  ran[job] = (ran[job] ?? 0) + 1;
  const transaction = async r => {
    await r.watch(own);
    if (!(await r.lrange(own, 0, -1)).includes(job)) return (await r.unwatch()) && 'gone';
    return (await whole(r.multi().lrem(own, 1, job).incr('jobs:done').hincrby('jobs:runs', job, 1))) ?? 'changed';
  };
  const [fate, replies] = await client.attempt(transaction);
  if (replies === 'changed') return REFUSED;
  if (replies === 'gone') {
    must(unsure.has(job), () => `${job} is not in ${own}, and nobody has finished it`);
  } else if (fate === DONE) {
    must(replies[0] === 1 && replies[2] === 1, () => `${job} was finished twice: ${replies}`);
    work.jobs++;
  } else if (fate === UNKNOWN) {
    unsure.add(job);
  }
  return fate;
}

const processed = new Set();
const delivered = new Set();
const acked = new Set();

async function addsEvents(client) {
  const { added, open } = ledger.events;
  for (let n = 0; ; n++) {
    while (!stopped.all && Object.keys(added).length - processed.size >= BACKLOG) await pause(2);
    if (stopped.all) break;
    const [fate, entry] = await client.attempt(r => r.xadd('events', '*', 'n', n));
    if (fate === DONE) {
      must(!(entry in added), () => `${entry} was given twice`);
      added[entry] = n;
    } else if (fate === UNKNOWN) {
      open.push(n);
    }
  }
  stopped.events = true;
}

async function consumes(client, n) {
  const who = ['readers', `consumer:${n}`];
  for (let turn = 1; ; turn++) {
    const last = stopped.events;
    const claims = turn % 4 === 0;
    const claim = r => r.xautoclaim('events', ...who, last ? 1 : IDLE_MS, '0-0', 'COUNT', 10);
    const read = r => r.xreadgroup('GROUP', ...who, 'COUNT', 3, 'BLOCK', 100, 'STREAMS', 'events', '>');
    const [fate, reply] = await client.attempt(claims ? claim : read);
    const entries = ((claims ? reply?.[1] : reply?.[0][1]) ?? []).map(([entry]) => entry);
    for (const entry of claims ? [] : entries) {
      must(!delivered.has(entry), () => `${entry} was given as new twice`);
      delivered.add(entry);
    }
    if (last && !claims && fate === DONE && entries.length === 0) {
      const [pending] = await client.untilDone(r => r.xpending('events', 'readers'));
      if (pending === 0) return;
    }
    if (entries.length > 0 && turn % DIES_EVERY === 0 && !last) {
      client.nextNode();
      continue;
    }
    for (const entry of entries) await acknowledges(client, entry);
  }
}

async function acknowledges(client, entry) {
  processed.add(entry);
  const [fate, count] = await client.attempt(r => r.xack('events', 'readers', entry));
  if (fate !== DONE || count !== 1) return;
  must(!acked.has(entry), () => `${entry} was acknowledged twice`);
  acked.add(entry);
  work.events++;
}

const holders = new Map();

async function locks(client, n) {
  let held = 0;
  for (let turn = 1; !stopped.all; turn++) {
    const token = `${n}:${turn}`;
    const ends = performance.now() + LEASE_MS;
    let [fate, got] = await client.attempt(r => r.set('lock', token, 'PX', LEASE_MS, 'NX'));
    if (fate === UNKNOWN) got = (await client.untilDone(r => r.get('lock'))) === token;
    if (!got) {
      await pause(10);
      continue;
    }
    const now = performance.now();
    const others = [...holders].filter(([, end]) => end > now).map(([other]) => other);
    must(others.length === 0 || ends <= now, () => `${n} and ${others} hold the lock`);
    holders.set(n, ends);
    const overstays = n === 0 && ++held % OVERSTAYS_EVERY === 0;
    if (overstays) {
      // Until somebody else has it, who has to keep it when this worker releases what it no longer has.
      while (!stopped.all && [token, null].includes(await client.untilDone(r => r.get('lock'))));
    } else {
      await client.attempt(r => r.incr('lock:entered'));
    }
    holders.delete(n);
    work.locks++;
    const [end, released] = await client.attempt(r => r.release('lock', token));
    if (end === DONE && performance.now() < ends) must(released === 1, () => `somebody else has released the lock of ${token}`);
    if (end === DONE && overstays && !stopped.all) {
      must(released === 0, () => `${token} was over, and was released`);
      work.overstays++;
    }
  }
}

const first = new Client(0);
await first.untilDone(r => r.xgroup('CREATE', 'events', 'readers', '$', 'MKSTREAM'));
first.nextNode();

process.stdin.on('end', () => (stopped.all = true)).resume();
const show = more => console.log(JSON.stringify({ work, outcomes, ...more }));
const shows = setInterval(show, 50);
const crew = [[storesSessions, 2], [readsSessions, 1], [plays, 2], [watchesLeague, 1], [asksLimiter, 2], [pushesJobs, 1]];
crew.push([worksOff, 2], [addsEvents, 1], [consumes, 2], [locks, 3]);
const running = crew.flatMap(([worker, count]) => Array.from({ length: count }, (_, n) => worker(new Client(n), n)));
await Promise.all(running);
clearInterval(shows);
ledger.events.processed = [...processed];
show({ ledger });
process.exitCode = 0;
setTimeout(() => process.exit(), 100);
