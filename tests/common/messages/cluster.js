// Messages from worker to worker through Node's own cluster primary: what people do today.
//
//   node cluster.js --workers 4 --bytes 64 --seconds 5 --window 16
//
// Each worker sends to random others, process.send({to, ...}), the primary passes it on,
// cluster.workers[to].send(...). Who receives a message says so to its sender in the same way, which
// makes room in the sender's window: an acknowledgement costs as much as a message and counts as none.
// A latency is that of one message, sender to receiver, by CLOCK_MONOTONIC, which all processes of a
// machine share. The result is one line of JSON. Ends by itself, with code 1 if a worker fails.

'use strict';

const cluster = require('node:cluster');
const { parseArgs } = require('node:util');

// Counted from when every worker is there; what is sent in it warms up compilers and caches.
const WARM_UP_MS = 1000;

// For the last answers to come, and then for the processes to end.
const PATIENCE_MS = 10000;

// Of each worker, chosen evenly from all (Vitter's algorithm R): 8 bytes each.
const SAMPLES = 200000;

const LIMITS = {
  workers: { least: 2, most: 256, ordinary: '4' },
  bytes: { least: 1, most: 1 << 20, ordinary: '64' },
  seconds: { least: 1, most: 600, ordinary: '5' },
  window: { least: 1, most: 65536, ordinary: '16' },
};

function settings() {
  const options = {};
  for (const [name, { ordinary }] of Object.entries(LIMITS)) {
    options[name] = { type: 'string', default: ordinary };
  }
  let values;
  try {
    ({ values } = parseArgs({ options }));
  } catch (err) {
    misused(err.message);
  }
  for (const [name, { least, most }] of Object.entries(LIMITS)) {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < least || value > most) {
      misused(`--${name} ${values[name]}: no number from ${least} to ${most}`);
    }
    values[name] = value;
  }
  return { ...values };
}

function misused(what) {
  console.error(`messages: ${what}`);
  process.exit(2);
}

// --- The primary: passes on, and adds up.

function primary() {
  const wanted = settings();
  const ready = new Set();
  const results = [];
  const deadline = setTimeout(
    () => fail('took too long'),
    WARM_UP_MS + wanted.seconds * 1000 + 2 * PATIENCE_MS,
  );
  const tell = (message) => {
    for (const id in cluster.workers) cluster.workers[id].send(message);
  };
  cluster.on('message', (worker, message) => {
    if (message.to !== undefined) {
      message.from = worker.id;
      cluster.workers[message.to]?.send(message);
    } else if (message.ready) {
      ready.add(worker.id);
      if (ready.size === wanted.workers) tell({ begin: [...ready], settings: wanted });
    } else if (message.result) {
      results.push(message.result);
      if (results.length === wanted.workers) {
        clearTimeout(deadline);
        console.log(JSON.stringify(summary(wanted, results)));
        tell({ end: true });
      }
    }
  });
  cluster.on('exit', (worker, code, signal) => {
    if (results.length < wanted.workers) fail(`worker ${worker.id} ended: ${signal ?? code}`);
  });
  for (let i = 0; i < wanted.workers; i += 1) cluster.fork();
}

function fail(why) {
  console.error(`messages: ${why}`);
  for (const id in cluster.workers) cluster.workers[id].process.kill('SIGKILL');
  process.exit(1);
}

function summary(wanted, results) {
  const messages = results.reduce((sum, it) => sum + it.received, 0);
  // A worker's samples stand for all that it has received.
  const weighed = results.flatMap(({ received, samples }) => {
    const weight = received / Math.max(1, samples.length);
    return samples.map((micros) => ({ micros, weight }));
  });
  weighed.sort((a, b) => a.micros - b.micros);
  const at = (quantile) => {
    let left = quantile * messages;
    for (const { micros, weight } of weighed) {
      left -= weight;
      if (left <= 0) return micros;
    }
    return weighed.length > 0 ? weighed[weighed.length - 1].micros : 0;
  };
  return {
    contestant: `node ${process.version}`,
    ...wanted,
    messages,
    messages_per_second: Math.round(messages / wanted.seconds),
    p50_us: at(0.5),
    p99_us: at(0.99),
    p999_us: at(0.999),
    max_us: results.reduce((most, it) => Math.max(most, it.longest), 0),
  };
}

// --- A worker: keeps its window full, and answers.

function worker() {
  const own = cluster.worker.id;
  let others = [];
  let payload = '';
  let window = 0;
  let underWay = 0;
  let phase = 'idle';
  let received = 0;
  let longest = 0;
  const samples = [];

  const fill = () => {
    while ((phase === 'warming' || phase === 'counting') && underWay < window) {
      underWay += 1;
      const to = others[Math.floor(Math.random() * others.length)];
      process.send({ to, payload, sent: String(process.hrtime.bigint()) });
    }
  };

  const note = (sent) => {
    const micros = Number(process.hrtime.bigint() - BigInt(sent)) / 1000;
    received += 1;
    longest = Math.max(longest, micros);
    if (samples.length < SAMPLES) {
      samples.push(micros);
    } else {
      const place = Math.floor(Math.random() * received);
      if (place < SAMPLES) samples[place] = micros;
    }
  };

  const begin = ({ begin: everybody, settings: wanted }) => {
    others = everybody.filter((id) => id !== own);
    payload = 'x'.repeat(wanted.bytes);
    window = wanted.window;
    phase = 'warming';
    fill();
    setTimeout(() => {
      phase = 'counting';
    }, WARM_UP_MS);
    setTimeout(() => {
      phase = 'over';
      const patience = setTimeout(() => process.exit(1), PATIENCE_MS);
      const wait = setInterval(() => {
        if (underWay > 0) return;
        clearInterval(wait);
        clearTimeout(patience);
        process.send({ result: { received, longest, samples } });
      }, 10);
    }, WARM_UP_MS + wanted.seconds * 1000);
  };

  process.on('message', (message) => {
    if (message.payload !== undefined) {
      if (phase === 'counting') note(message.sent);
      process.send({ to: message.from, arrived: true });
    } else if (message.arrived) {
      underWay -= 1;
      fill();
    } else if (message.begin) {
      begin(message);
    } else if (message.end) {
      process.disconnect();
    }
  });
  process.on('disconnect', () => process.exit(0));
  process.send({ ready: true });
}

if (cluster.isPrimary) primary();
else worker();
