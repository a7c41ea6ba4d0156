// How fast the search is, as factors between what runs in the same browser one after another: the machine does
// not matter. Nothing else runs meanwhile.
'use strict';
const assert = require('node:assert');
const os = require('node:os');
const { after, before, describe, test } = require('node:test');
const { launch, tab, until } = require('./support');
const stub = require('./stub');

// Runs in a page. Hashes a millisecond: of the page's solver, with WebAssembly and without, and of loops that
// call something for each hash, as a page would that uses a library.
const measure = async () => {
  const source = await (await fetch('/.library/solver.js')).text();
  const ours = async milliseconds => {
    // A script of its own, as in a worker: Firefox runs one that is started twice at a fifth of the rate. Parts
    // are of so much work that some dozens are found in the time.
    const find = (0, eval)(source + ';solver')({ c: 'A'.repeat(118), w: 20_000 });
    const rates = [];
    for (let part = 0, end = performance.now() + milliseconds; performance.now() < end; part++) {
      rates.push((await find(part))[0]);
    }
    // The last rate is over all since the engine was chosen.
    return rates.at(-1);
  };
  const loop = async (milliseconds, hash) => {
    const block = new Uint8Array(44).fill(7);
    const view = new DataView(block.buffer);
    let count = 0;
    const begun = performance.now();
    for (const end = begun + milliseconds; performance.now() < end;) {
      for (let i = 0; i < 50; i++) {
        view.setUint32(40, count++);
        const first = await hash(block);
        if (first == 0 && count < 0) throw 0;
      }
    }
    return count / (performance.now() - begun);
  };
  const { sha256 } = await import('/.library/@noble/hashes/sha2.js');
  const library = (await import('/.library/js-sha256/src/index.mjs')).sha256;
  const sync = hash => block => hash(block);
  // The best of some turns each, as other programs take turns, too.
  const rates = {};
  const turn = async (of, rate) => {
    rates[of] = Math.max(rates[of] || 0, await rate);
  };
  const assembly = self.WebAssembly;
  for (let turns = 0; turns < 3; turns++) {
    await turn('subtle', loop(300, async block => new Uint8Array(await crypto.subtle.digest('SHA-256', block))[0]));
    await turn('noble', loop(400, sync(block => sha256(block)[0])));
    await turn('jsSha256', loop(400, sync(block => library.array(block)[0])));
    await turn('wasm', ours(800));
    delete self.WebAssembly;
    await turn('js', ours(800));
    self.WebAssembly = assembly;
  }
  return rates;
};

const fastest = {};

for (const name of ['chromium', 'firefox']) {
  describe(name, () => {
    let browser, secure, plain;
    before(async () => {
      [browser, secure, plain] = [await launch(name), await stub.start({ secure: true }), await stub.start()];
    });
    after(async () => {
      await browser?.close();
      await secure?.end();
      await plain?.end();
    });

    test('40: five times the rate of a loop over a library, three times without WebAssembly', async () => {
      const page = await tab(browser);
      try {
        await page.goto(secure.url('/.empty'));
        const rates = await page.evaluate(measure);
        const shown = Object.entries(rates).map(([of, rate]) => `${of} ${Math.round(rate)}`).join(', ');
        console.log(`${name}, thousand hashes a second: ${shown}`);
        for (const loop of ['subtle', 'noble']) {
          assert.ok(rates.wasm >= 5 * rates[loop], `WebAssembly against ${loop}: ${shown}`);
        }
        fastest[name] = rates.wasm;
        const library = Math.max(rates.subtle, rates.noble);
        assert.ok(rates.js >= 3 * library, `plain JavaScript against a library: ${shown}`);
      } finally {
        await page.end();
      }
    });

    test('7: without a worker the page stays responsive', async () => {
      Object.assign(plain, { terms: { a: 'sha256', w: 2 ** 20, k: 16, nb: 0, ttl: 300 },
        verify: () => ({ status: 503, body: { code: 'busy', retry: 99 } }) });
      const page = await tab(browser, () => {
        delete self.Worker;
        delete self.WebAssembly;
        // The times between what is to be done at once.
        self.gaps = [];
        const channel = new MessageChannel;
        let last;
        channel.port1.onmessage = () => {
          const now = performance.now();
          if (last && document.querySelector('progress')?.value > 0 && !document.getElementById('b').textContent) {
            self.gaps.push(now - last);
          }
          last = now;
          channel.port2.postMessage(0);
        };
        channel.port2.postMessage(0);
      });
      try {
        await page.goto(plain.url(), { waitUntil: 'domcontentloaded' });
        await until('the solution', () => plain.count('POST', '/.challenge'), 60_000);
        const gaps = (await page.evaluate(() => self.gaps.filter(gap => gap > 1))).sort((a, b) => a - b);
        assert.ok(gaps.length > 10, `${gaps.length} slices`);
        const of = share => gaps[Math.floor(gaps.length * share)].toFixed(1);
        const shown = `${gaps.length} slices, half up to ${of(.5)} ms, 95 of 100 up to ${of(.95)} ms`;
        console.log(`${name}: ${shown}`);
        // From 50 ms on a task is called long. What the machine takes away meanwhile is not the page's.
        assert.ok(of(.5) <= 25 && of(.9) <= 50, shown);
      } finally {
        await page.end();
      }
    });
  });
}

test('3: the search takes Firefox less than twice the time of Chromium', () => {
  assert.ok(fastest.firefox * 2 > fastest.chromium, JSON.stringify(fastest));
});

describe('chromium without a JIT', () => {
  test('6: the default level takes less than 10 s over TLS', async () => {
    const browser = await launch('chromium', { args: ['--js-flags=--jitless'] });
    const site = await stub.start({ secure: true });
    try {
      site.terms = { a: 'sha256', w: 2 ** 20, k: 16, nb: 0, ttl: 300 };
      const page = await tab(browser);
      const begun = Date.now();
      await page.goto(site.url(), { waitUntil: 'domcontentloaded' });
      await until('the page behind', async () => await page.title().catch(() => '') == 'backend', 90_000);
      console.log(`without a JIT: ${Date.now() - begun} ms`);
      // As if nothing else were running.
      const share = Math.max(1, os.loadavg()[0] / os.cpus().length);
      assert.ok(Date.now() - begun < 10_000 * share, `${Date.now() - begun} ms with ${share} at each core`);
    } finally {
      await browser.close();
      await site.end();
    }
  });
});
