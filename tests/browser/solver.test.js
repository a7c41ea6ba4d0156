// The search for nonces, outside of browsers: each way to hash finds what counts.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const SOURCE = fs.readFileSync(path.join(__dirname, '../../src/agents/challenge/page/solver.js'), 'utf8');

// A solver in a world of its own, that has what is given.
const solver = world => new Function('self', 'WebAssembly', 'crypto', 'performance', `${SOURCE}; return solver`)(
  world, world.WebAssembly, world.crypto, world.performance || performance);

const digestOf = ({ c, i }, part, nonce) => {
  const seed = crypto.createHash('sha256').update(i ? 'pbk1' : 'pow1').update(Buffer.from(c, 'base64url')).digest();
  const message = Buffer.alloc(12);
  message.writeUInt32BE(part);
  message.writeBigUInt64BE(nonce, 4);
  return i ? crypto.pbkdf2Sync(seed, message, i, 32, 'sha256')
    : crypto.createHash('sha256').update(seed).update(message).digest();
};

// Lengths of challenges around the ends of blocks, and works that are no powers of two.
const JOBS = [51, 52, 59, 60, 61, 88, 115, 116, 123, 124, 125].map((length, index) => (
  { c: crypto.randomBytes(length).toString('base64url'), w: [1, 2, 3, 100, 1000, 4097][index % 6] }));

const finds = async (world, jobs, slow) => {
  const rates = [];
  for (const job of jobs) {
    const find = solver(world)({ ...job });
    for (let part = 0; part < 5; part++) {
      const [rate, of, nonce] = await find(part);
      const digest = digestOf(job, part, BigInt('0x' + nonce)).readBigUInt64BE();
      assert.equal(of, part);
      assert.ok(digest < (1n << 64n) / BigInt(job.w), `${JSON.stringify(job)} part ${part} nonce ${nonce}`);
      // It is the first one there is.
      for (let n = 0n; !slow && n < BigInt('0x' + nonce) && n < 500n; n++) {
        const earlier = digestOf(job, part, n).readUInt32BE();
        assert.ok(earlier > 2 ** 32 / job.w - 1, `nonce ${n} was passed over`);
      }
      rates.push(rate);
    }
  }
  return rates;
};

test('WebAssembly', async () => {
  let modules = 0;
  const world = { WebAssembly: { instantiate: async bytes => {
    const made = await WebAssembly.instantiate(bytes);
    modules++;
    return made;
  } } };
  await finds(world, JOBS);
  assert.equal(modules, JOBS.length, 'the module is a valid one');
});
test('plain JavaScript', () => finds({}, JOBS));
test('the digests of the browser', async () => {
  // Plain JavaScript that is so slow that it is given up: it is stopped from doing anything at all.
  let count = 0;
  const world = { crypto: { subtle: { digest: async (name, data) => {
    count++;
    return crypto.webcrypto.subtle.digest(name, data);
  } } } };
  let slow = 0;
  world.performance = { now: () => performance.now() + (slow += 40) };
  await finds(world, [{ c: JOBS[3].c, w: 3000 }], true);
  assert.ok(count > 0, 'it was tried');
});
test('PBKDF2', () => finds({ crypto: crypto.webcrypto }, [{ ...JOBS[5], w: 20, i: 10 }]));
test('a policy against WebAssembly', () => finds({ WebAssembly: { instantiate: async () => {
  throw new Error('refused');
} } }, JOBS.slice(4)));
