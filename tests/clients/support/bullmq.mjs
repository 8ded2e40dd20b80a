// Adds jobs to a BullMQ queue, works on them, and waits until each has run and its completion was heard: job_libraries.py starts
// this in a folder with bullmq in it, and kills nodes meanwhile. What has run is counted in the hash runs:bullmq.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.cwd(), 'package.json'));
const { Queue, QueueEvents, Worker } = require('bullmq');
const Redis = require('ioredis');

const [port, jobs] = process.argv.slice(2).map(Number);
const to = () => ({ host: '127.0.0.1', port, maxRetriesPerRequest: null });
// What a node that is gone was asked meanwhile is answered with an error, and tried again by the library.
const quiet = thing => (thing.on('error', () => {}), thing);

const counts = quiet(new Redis(to()));
const queue = quiet(new Queue('work', { connection: to() }));
const events = quiet(new QueueEvents('work', { connection: to() }));
await events.waitUntilReady();
const heard = new Set();
events.on('completed', ({ jobId }) => heard.add(jobId));

const run = async ({ data: { n } }) => {
  await new Promise(done => setTimeout(done, 100));
  await counts.hincrby('runs:bullmq', n, 1);
  return n * n;
};
const options = { connection: to(), concurrency: 2, lockDuration: 10_000, stalledInterval: 5_000 };
const workers = [0, 1].map(() => quiet(new Worker('work', run, options)));

const again = async what => {
  for (;;) {
    try {
      return await what();
    } catch (error) {
      if (!/UNKNOWN|TRYAGAIN|CLUSTERDOWN|READONLY|LOADING/.test(error.message)) throw error;
      await new Promise(done => setTimeout(done, 100));
    }
  }
};
// A name makes adding it twice the same as once.
const ids = [];
for (let n = 0; n < jobs; n++) {
  const plan = { jobId: `job-${n}`, attempts: 5, backoff: 100, priority: n % 3 === 0 ? 2 : 0, delay: n % 5 === 0 ? 200 : 0 };
  ids.push((await again(() => queue.add('square', { n }, plan))).id);
}
while (!ids.every(id => heard.has(id))) {
  await new Promise(done => setTimeout(done, 100));
  // A completion that was not heard is in the stream of events no more: the job itself says so.
  for (const id of ids.filter(id => !heard.has(id))) {
    const job = await again(() => queue.getJob(id));
    if (await again(() => job.isCompleted())) heard.add(id);
    if (await again(() => job.isFailed())) throw new Error(`job ${id} failed: ${job.failedReason}`);
  }
}
for (const [n, id] of ids.entries()) {
  const { returnvalue } = await again(() => queue.getJob(id));
  if (returnvalue !== n * n) throw new Error(`job ${id} returned ${returnvalue}`);
}
await Promise.all(workers.map(worker => worker.close()));
process.exit(0);
