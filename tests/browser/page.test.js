// The page in both browsers, in front of a stand-in for the server (stub.js) that fails on demand. The numbers
// are those of the visits that browser validation is specified by.
'use strict';
const assert = require('node:assert');
const { after, before, describe, test } = require('node:test');
const { heading, inTab, isHeaded, launch, says, sleep, texts, until } = require('./support');
const stub = require('./stub');

const EN = texts('en');
const isBackend = page => isHeaded(page, 'backend');
const visit = (page, url) => page.goto(url, { waitUntil: 'domcontentloaded' });

// Workers have globals of their own: what is to be missing in them is taken away in front of their source.
const without = (...names) => [names => {
  const source = names.map(name => name == 'subtle'
    ? 'if(self.Crypto)Object.defineProperty(Crypto.prototype,"subtle",{value:undefined});' : `delete self.${name};`).join('');
  const Blob = self.Blob;
  self.Blob = function (parts, options) {
    return new Blob([source, ...parts], options);
  };
  for (const name of names) {
    if (name == 'subtle') Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined });
    else delete self[name];
  }
}, names];

for (const name of ['chromium', 'firefox']) {
  // Most of a visit is waiting.
  describe(name, { concurrency: 5 }, () => {
    let browser;
    before(async () => {
      browser = await launch(name);
    });
    after(() => browser?.close());

    // A visit to a site of its own.
    const visiting = (title, { tls, init, ...options }, body) => test(title, { timeout: 90_000 }, async () => {
      const site = Object.assign(await stub.start({ secure: tls }), options);
      await inTab(browser, site, async page => {
        if (init) await page.evaluateOnNewDocument(...[init].flat(1));
        await body(page, site);
      });
    });
    const passes = async (page, site, address = '/') => {
      await visit(page, site.url(address));
      await isBackend(page);
      return site.count('POST', '/.challenge');
    };

    visiting('1 and 3: plain http on a name that is not localhost takes one challenge', {}, async (page, site) => {
      await visit(page, site.url('/a?b=c#d'));
      assert.equal(await page.evaluate(() => isSecureContext).catch(() => false), false);
      await isBackend(page);
      assert.equal(page.url(), site.url('/a?b=c#d'));
      assert.equal(site.count('POST', '/.challenge'), 1);
      assert.equal(site.count('GET', '/.challenge'), 1);
      assert.equal(site.count('GET', '/a'), 2);
    });
    visiting('2 and 3: and over TLS', { tls: true }, async (page, site) => {
      assert.equal(await passes(page, site), 1);
    });
    visiting('an embedded challenge saves a request', { embedded: true }, async (page, site) => {
      assert.equal(await passes(page, site), 1);
      assert.equal(site.count('GET', '/.challenge'), 0);
    });
    visiting('no probe where there is no path for it', { page: { config: { path: '/.challenge', probe: false } } },
      async (page, site) => {
        assert.equal(await passes(page, site), 1);
        assert.equal(site.count('GET', '/.challenge/ok'), 0);
      });
    visiting('work of 1 takes any nonce', { terms: { a: 'sha256', w: 1, k: 16, nb: 0, ttl: 300 } }, async (page, site) => {
      assert.equal(await passes(page, site), 1);
    });
    visiting('the default work, of 2^20 hashes', { terms: { a: 'sha256', w: 2 ** 20, k: 16, nb: 0, ttl: 300 } },
      async (page, site) => {
        assert.equal(await passes(page, site), 1);
      });
    visiting('PBKDF2 over TLS', { tls: true, terms: { a: 'pbkdf2', w: 64, k: 4, it: 1000, nb: 0, ttl: 300 } },
      async (page, site) => {
        assert.equal(await passes(page, site), 1);
      });
    visiting('the wait is kept', { terms: { a: 'wait', nb: 4, ttl: 300 } }, async (page, site) => {
      const begun = Date.now();
      await visit(page, site.url());
      await isBackend(page);
      assert.ok(Date.now() - begun >= 4000);
    });

    // Solvers that are left when something is missing.
    const work = { terms: { a: 'sha256', w: 2 ** 15, k: 16, nb: 0, ttl: 300 } };
    visiting('7: no worker', { ...work, init: without('Worker') }, async (page, site) => {
      assert.equal(await passes(page, site), 1);
    });
    visiting('7: workers that never answer', { ...work, init: () => {
      self.Worker = class { postMessage() {} terminate() {} };
    } }, async (page, site) => {
      assert.equal(await passes(page, site), 1);
    });
    const policies = {
      'script-src-less': "default-src 'self' 'unsafe-inline'",
      'worker-src none': "worker-src 'none'",
      'no blob': "worker-src 'self'; script-src 'self' 'unsafe-inline'",
    };
    for (const [title, policy] of Object.entries(policies)) {
      visiting(`7: a second policy, ${title}`, { ...work }, async (page, site) => {
        site.headers = { 'content-security-policy': [policy, require('./support').POLICY] };
        assert.equal(await passes(page, site), 1);
      });
    }
    visiting('8: no WebAssembly', { ...work, init: without('WebAssembly') }, async (page, site) => {
      assert.equal(await passes(page, site), 1);
    });
    visiting('8: neither WebAssembly nor crypto.subtle', { ...work, tls: true, init: without('WebAssembly', 'subtle') },
      async (page, site) => {
        assert.equal(await passes(page, site), 1);
      });
    visiting('no BroadcastChannel', { ...work, init: without('BroadcastChannel') }, async (page, site) => {
      assert.equal(await passes(page, site), 1);
    });

    // What a refusal is answered by.
    for (const code of ['expired', 'binding', 'work', 'mac']) {
      visiting(`${code}: the next challenge, without a word`, {}, async (page, site) => {
        let refused = 0;
        site.verify = () => refused++ < 2 ? { body: { ok: false, code, next: site.challenge() } } : null;
        assert.equal(await passes(page, site), 3);
        assert.equal(site.count('GET', '/.challenge'), 1);
      });
    }
    visiting('refused three times: it says so, with the support id, and asks no more', {}, async (page, site) => {
      site.verify = () => ({ body: { ok: false, code: 'binding' } });
      await visit(page, site.url());
      await says(page, EN.failed);
      await sleep(500);
      assert.equal(site.count('POST', '/.challenge'), 3);
      assert.equal(site.count('GET', '/'), 1);
      assert.match(await page.$eval('#i', element => element.textContent), /^TEST-TEST-\d{4}$/);
      assert.equal(await page.evaluate(() => document.activeElement.tagName), 'H1');
      assert.equal(await page.title(), EN.failed);
      site.verify = null;
      await page.$eval('#b', button => button.click());
      await isBackend(page);
    });
    for (const code of ['format', 'host']) {
      visiting(`${code}: no second try`, { verify: () => ({ status: 400, body: { ok: false, code } }) },
        async (page, site) => {
          await visit(page, site.url());
          await says(page, EN.failed);
          await sleep(300);
          assert.equal(site.count('POST', '/.challenge'), 1);
        });
    }
    const footer = page => page.$eval('footer', element => element.innerText.trim());
    visiting('an ID has a label', { verify: () => ({ status: 400, body: { ok: false, code: 'format' } }) },
      async (page, site) => {
        await visit(page, site.url());
        await says(page, EN.failed);
        assert.match(await footer(page), new RegExp(`^${EN.id} TEST-TEST-\\d{4}$`));
      });
    visiting('and no ID has none', { issue: () => ({ status: 429, headers: { 'retry-after': '99' } }) },
      async (page, site) => {
        await visit(page, site.url());
        await says(page, EN.silent);
        assert.equal(await footer(page), '');
      });
    for (const code of ['early', 'busy', 'provider']) {
      visiting(`${code}: the same solution once more, when the server says`, {}, async (page, site) => {
        const at = [];
        site.verify = () => at.push(Date.now()) == 1 ? { status: 503, body: { ok: false, code, retry: 1 } } : null;
        assert.equal(await passes(page, site), 2);
        assert.ok(at[1] - at[0] >= 990, `${at[1] - at[0]} ms`);
        const [first, second] = site.log.filter(seen => seen.method == 'POST').map(seen => seen.body);
        assert.equal(first, second);
      });
    }
    visiting('16: a server that is gone for a while', {}, async (page, site) => {
      let tries = 0;
      site.verify = () => tries++ < 2 ? true : null;
      await visit(page, site.url());
      await isBackend(page);
      assert.equal(tries, 3);
    });
    visiting('Retry-After of a limit is kept', {}, async (page, site) => {
      const at = [];
      site.issue = () => at.push(Date.now()) == 1 ? { status: 429, headers: { 'retry-after': '2' } } : null;
      await passes(page, site);
      assert.ok(at[1] - at[0] >= 1990, `${at[1] - at[0]} ms`);
    });
    visiting('the wait for another try can be skipped', {}, async (page, site) => {
      let tries = 0;
      site.issue = () => tries++ ? null : { status: 429, headers: { 'retry-after': '99' } };
      await visit(page, site.url());
      await says(page, EN.again);
      await page.$eval('#b', button => button.click());
      await isBackend(page);
    });
    visiting('9: a cookie that does not arrive is told, and nothing reloads', { probe: () => 403 }, async (page, site) => {
      await visit(page, site.url());
      await says(page, EN.cookies);
      await sleep(300);
      assert.equal(site.count('GET', '/'), 1);
    });
    visiting('a site that lets nobody through is not reloaded for ever', {}, async (page, site) => {
      site.verify = () => ({ status: 200, body: { ok: true, exp: 9 } });
      site.probe = () => 204;
      await visit(page, site.url());
      await says(page, EN.failed);
      await sleep(300);
      // Four visits; in Firefox the last words of a page may reach its next self, which counts them as a try.
      assert.ok(site.count('GET', '/') <= 4, `${site.count('GET', '/')} visits`);
      site.verify = site.probe = null;
      await page.$eval('#b', button => button.click());
      await isBackend(page);
    });
    visiting('14: a laptop that slept past the challenge', { terms: { a: 'wait', nb: 60, ttl: 300 },
      init: () => {
        const now = Date.now;
        self.slept = 0;
        Date.now = () => now() + self.slept;
      } }, async (page, site) => {
      await visit(page, site.url());
      await until('the challenge', () => page.$eval('#i', element => element.textContent));
      site.terms = { a: 'wait', nb: 0, ttl: 300 };
      await page.evaluate(() => {
        self.slept = 4e5;
      });
      await isBackend(page);
      assert.equal(site.count('GET', '/.challenge'), 2);
      assert.equal(site.count('POST', '/.challenge'), 1);
    });
    for (const days of [-1, 1]) {
      visiting(`18: a clock that is ${days} day off`, { embedded: true, init: [days => {
        const now = Date.now;
        Date.now = () => now() + days * 864e5;
      }, days] }, async (page, site) => {
        assert.equal(await passes(page, site), 1);
      });
    }
    visiting('11: a form is sent again by the visitor alone, and arrives', {}, async (page, site) => {
      await visit(page, site.url('/.empty'));
      await page.evaluate(() => {
        document.body.innerHTML = '<form method="post" action="/form"><input name="a" value="kept"></form>';
        document.forms[0].submit();
      });
      await says(page, EN.form);
      await sleep(300);
      assert.equal(site.count('POST', '/form'), 1);
      assert.equal(site.count('GET', '/form'), 0);
      page.on('dialog', dialog => dialog.accept());
      await page.$eval('#b', button => button.click());
      await isBackend(page);
      assert.equal(site.log.find(seen => seen.path == '/form' && seen.isClear).body, 'a=kept');
      assert.equal(site.count('GET', '/form'), 0);
    });
    visiting('13: ten tabs at once', { terms: { a: 'sha256', w: 2 ** 18, k: 16, nb: 0, ttl: 300 } }, async (page, site) => {
      const context = page.browserContext();
      const pages = [page, ...await Promise.all(Array.from({ length: 9 }, () => context.newPage()))];
      await Promise.all(pages.map(page => visit(page, site.url())));
      await Promise.all(pages.map(async page => {
        // Hidden tabs wait until they are seen.
        if (await heading(page) != 'backend') await page.bringToFront();
        await isBackend(page);
      }));
      assert.ok(site.count('POST', '/.challenge') <= 2, `${site.count('POST', '/.challenge')} solutions`);
    });
    const captcha = { a: 'turnstile', js: '/.captcha.js', g: 'captcha', sk: 'site-key', nb: 0, ttl: 300 };
    const letIn = { 'content-security-policy': "script-src 'self' 'unsafe-inline'" };
    visiting('a captcha', { terms: captcha, headers: letIn }, async (page, site) => {
      await visit(page, site.url());
      await says(page, EN.captcha);
      await page.waitForSelector('#robot');
      await page.$eval('#robot', button => button.click());
      await isBackend(page);
      assert.match(site.log.find(seen => seen.method == 'POST').body, /^[\w-]+\.answer\.of-site-key$/);
    });
    visiting('a captcha whose script is blocked', { terms: captcha }, async (page, site) => {
      await visit(page, site.url());
      await says(page, EN.blocked);
    });
    visiting('what is read aloud', { terms: { a: 'wait', nb: 5, ttl: 300 }, init: () => {
      self.spoken = [];
      new MutationObserver(() => {
        const text = document.getElementById('s')?.textContent;
        if (text && self.spoken.at(-1) != text) self.spoken.push(text);
      }).observe(document, { childList: true, subtree: true });
    }, verify: () => ({ status: 400, body: { ok: false, code: 'format' } }) }, async (page, site) => {
      await visit(page, site.url());
      await says(page, EN.failed);
      const spoken = await page.evaluate(() => self.spoken);
      assert.deepStrictEqual(spoken.map(text => text.replace(/ ·.*/, '')), ['0%', '25%', '50%', '75%']);
      assert.match(spoken[0], /about 5 s$/);
    });
  });
}
