// Visits of both browsers to the server behind HAProxy. The numbers are those of the visits that browser
// validation is specified by.
'use strict';
const assert = require('node:assert');
const { after, before, describe, test } = require('node:test');
const { heading, inTab, isHeaded, launch, says, sleep, tab, texts, until } = require('./support');
const real = require('./real');

const EN = texts('en');
const isBackend = page => isHeaded(page, 'backend', 30_000);

// What a tab asks of a site, in order: `page GET 403`.
const watch = page => {
  const seen = [];
  page.on('response', response => {
    const { pathname } = new URL(response.url());
    if (!/^https?:/.test(response.url()) || pathname == '/favicon.ico') return;
    const kind = pathname.startsWith('/.challenge') ? pathname.slice(2) : 'page';
    seen.push(`${kind} ${response.request().method()} ${response.status()}`);
  });
  seen.count = what => seen.filter(one => one.startsWith(what)).length;
  return seen;
};

for (const name of ['chromium', 'firefox']) {
  describe(name, { concurrency: 4 }, () => {
    let browser, site;
    before(async () => {
      [browser, site] = [await launch(name), await real.start()];
    });
    after(async () => {
      await browser?.close();
      await site?.end();
    });
    const visiting = (title, body) => test(title, { timeout: 90_000 }, async () => {
      await inTab(browser, null, page => body(page, watch(page)));
    });
    const go = async (page, url) => {
      await page.goto(url, { waitUntil: 'domcontentloaded' });
      await isBackend(page);
    };

    visiting('1: plain http', async (page, seen) => {
      await go(page, site.url('/a?b=c'));
      assert.deepStrictEqual([...seen], ['page GET 403', 'challenge POST 200', 'challenge/ok GET 204', 'page GET 200']);
      const [cookie] = await page.browserContext().cookies();
      assert.equal(cookie.name, 'clearance');
      assert.equal(cookie.httpOnly, true);
      await go(page, site.url('/another'));
      assert.equal(seen.count('challenge'), 2);
    });
    visiting('2: TLS, and what its cookie says', async (page, seen) => {
      await go(page, site.secureUrl('/'));
      assert.equal(seen.count('challenge POST'), 1);
      const [cookie] = await page.browserContext().cookies();
      assert.deepStrictEqual([cookie.name, cookie.secure, cookie.httpOnly, cookie.sameSite, cookie.path, cookie.domain],
        ['__Host-clearance', true, true, 'Lax', '/', 'site.test']);
      const left = cookie.expires - Date.now() / 1e3;
      assert.ok(left > 43_000 && left <= 43_210, `${left} s`);
    });
    visiting('4: below, above and below again: one challenge each, and no loop', async (page, seen) => {
      await go(page, site.url('/', 'sub.site.test'));
      await go(page, site.url('/', 'site.test'));
      await go(page, site.url('/', 'sub.site.test'));
      await go(page, site.url('/', 'site.test'));
      assert.equal(seen.count('challenge POST 200'), 2);
      assert.equal(seen.count('page GET 403'), 2);
    });
    visiting('5: a trusted domain, and one that only ends like it', async (page, seen) => {
      await go(page, site.url('/', 'a.trusted.test'));
      await go(page, site.url('/', 'b.trusted.test'));
      assert.equal(seen.count('challenge POST'), 1);
      await go(page, site.url('/', 'eviltrusted.test'));
      assert.equal(seen.count('challenge POST'), 2);
    });
    visiting('11: a form arrives as it was, and only when the visitor says so', async page => {
      await page.goto(site.url('/robots.txt'), { waitUntil: 'domcontentloaded' });
      await page.evaluate(() => {
        document.body.innerHTML = '<form method="post" action="/form-' + Math.random()
          + '"><input name="a" value="kept"></form>';
        document.forms[0].submit();
      });
      await says(page, EN.form);
      await sleep(300);
      const { pathname } = new URL(page.url());
      const arrived = () => site.log.filter(seen => seen.path == pathname);
      assert.deepStrictEqual(arrived(), []);
      page.on('dialog', dialog => dialog.accept());
      await page.$eval('#b', button => button.click());
      await isBackend(page);
      assert.deepStrictEqual(arrived().map(({ method, body }) => [method, body]), [['POST', 'a=kept']]);
    });
    for (const tls of [false, true]) visiting(`12: what is no navigation gets no page${tls ? ', over TLS' : ''}`, async page => {
      await page.goto(tls ? site.secureUrl('/robots.txt') : site.url('/robots.txt'), { waitUntil: 'domcontentloaded' });
      const answers = await page.evaluate(async tls => {
        const of = async (url, init) => {
          const response = await fetch(url, init);
          return [response.status, response.headers.get('x-challenge'), await response.text()];
        };
        const failed = kind => new Promise(done => {
          const element = document.createElement(kind);
          element.onload = () => done('loaded');
          element.onerror = () => done('refused');
          if (kind == 'link') Object.assign(element, { rel: 'stylesheet', href: '/style.css' });
          else element.src = '/picture.png';
          document.body.append(element);
        });
        const socket = new WebSocket((tls ? 'wss://' : 'ws://') + location.host + '/socket');
        const closed = new Promise(done => {
          socket.onopen = () => done('open');
          socket.onerror = () => done('refused');
        });
        const x = new XMLHttpRequest;
        x.open('POST', '/api');
        const sent = new Promise(done => {
          x.onloadend = () => done([x.status, x.getResponseHeader('x-challenge'), x.responseText]);
        });
        x.send('a');
        // Without TLS browsers do not say what a request is for, and this one would look like a navigation.
        const b = tls ? { headers: { accept: 'text/html' } } : {};
        return [await of('/a'), await of('/b', b), await sent, await failed('img'), await failed('link'), await closed];
      }, tls);
      const short = [403, 'required', '{"challenge":"required"}'];
      assert.deepStrictEqual(answers, [short, short, short, 'refused', 'refused', 'refused']);
    });
    visiting('13: ten tabs opened together', async page => {
      const context = page.browserContext();
      const pages = [page, ...await Promise.all(Array.from({ length: 9 }, () => context.newPage()))];
      const all = pages.map(watch);
      await Promise.all(pages.map(page => page.goto(site.url(), { waitUntil: 'domcontentloaded' })));
      for (const page of pages) {
        // Hidden tabs wait until they are seen.
        if (await heading(page) != 'backend') await page.bringToFront();
        await isBackend(page);
      }
      const solved = all.reduce((sum, seen) => sum + seen.count('challenge POST'), 0);
      assert.ok(solved >= 1 && solved <= 2, `${solved} solutions`);
    });
    if (name == 'chromium') {
      // Firefox has no way to send a header of a test with every request.
      visiting('19: addresses change', async (page, seen) => {
        const from = address => page.setExtraHTTPHeaders({ 'x-from': address });
        await from('192.0.2.1');
        await go(page, site.url());
        await from('2001:db8::1');
        await go(page, site.url());
        assert.equal(seen.count('challenge POST 200'), 2, 'a solution for each family');
        await from('192.0.2.1');
        await go(page, site.url());
        await from('2001:db8::2:3');
        await go(page, site.url());
        assert.equal(seen.count('challenge POST 200'), 2, 'both count from then on');
        await from('198.51.100.7');
        let solution;
        page.on('request', request => {
          solution = request.postData() || solution;
        });
        await go(page, site.url());
        // Where challenges have their work.
        const work = Buffer.from(solution.split('.')[0], 'base64url').readUInt32BE(17);
        assert.equal(work, 65_536 / 16, 'who only moved does a part of the work');
      });
    }
    visiting('the language of the browser, from the agent', async page => {
      // Hidden pages wait, and this one is looked at.
      await page.evaluateOnNewDocument(() => Object.defineProperty(document, 'hidden', { value: true }));
      await page.setExtraHTTPHeaders({ 'accept-language': 'de-AT,de;q=0.9' }).catch(() => {});
      await page.goto(site.url(), { waitUntil: 'domcontentloaded' });
      const [lang, text] = await page.evaluate(() => [document.documentElement.lang, document.title]);
      if (name == 'chromium') assert.deepStrictEqual([lang, text], ['de', texts('de').title]);
      else assert.ok(texts(lang).title == text, `${lang} ${text}`);
      assert.match(await page.$eval('#i', element => element.textContent), /^[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}$/);
      assert.equal(await page.$eval('#n', element => element.textContent), 'Site of tests');
    });
    test('39: HAProxy has nothing to say about the page', () => {
      const { status, stdout, stderr } = site.check();
      assert.equal(status, 0);
      assert.ok(!/WARNING|ALERT/.test(stdout + stderr), stdout + stderr);
    });
  });
}

describe('agents', { concurrency: 2 }, () => {
  let browser;
  before(async () => {
    browser = await launch('chromium');
  });
  after(() => browser?.close());
  const visiting = (title, options, body) => test(title, { timeout: 90_000 }, async () => {
    const site = await real.start(options);
    await inTab(browser, site, page => body(page, site, watch(page)));
  });

  visiting('PBKDF2', {
    settings: real.SETTINGS.replace('type = "pow"\nwork = 65536\nparts = 16',
      'type = "pbkdf2"\nwork = 64\nparts = 4\niterations = 1000'),
  }, async (page, site, seen) => {
    await page.goto(site.secureUrl(), { waitUntil: 'domcontentloaded' });
    await isBackend(page);
    assert.equal(seen.count('challenge POST 200'), 1, `${seen}`);
  });
  visiting('15: the level rises between the challenge and its solution', {
    changes: [['http-request set-var(txn.ask.level) int(1)\n',
      'http-request set-var(txn.ask.level) int(1)\n    http-request set-var(txn.ask.level) int(2) if { nbsrv(risen) gt 0 }\n'],
    ['backend challenge-limits', 'backend risen\n    server up 127.0.0.1:1 disabled\n\nbackend challenge-limits']],
  }, async (page, site, seen) => {
    // Held back until the level is another.
    await page.setRequestInterception(true);
    let held = [];
    page.on('request', request => held && request.method() == 'POST' ? held.push(request) : request.continue());
    await page.goto(site.url(), { waitUntil: 'domcontentloaded' });
    await until('the solution', () => held.length);
    await site.command('enable server risen/up');
    held.splice(0).forEach(request => request.continue());
    held = null;
    await isBackend(page);
    assert.equal(seen.count('challenge POST 200'), 2, `${seen}`);
    assert.equal(seen.count('page GET 403'), 2, `${seen}`);
  });
  visiting('16: the agent is killed during the search, and comes back', {}, async (page, site, seen) => {
    await page.setRequestInterception(true);
    let held = [];
    page.on('request', request => held && request.method() == 'POST' ? held.push(request) : request.continue());
    await page.goto(site.url(), { waitUntil: 'domcontentloaded' });
    await until('the solution', () => held.length);
    await site.killAgent(0);
    held.splice(0).forEach(request => request.continue());
    held = null;
    await until('a refusal', () => seen.count('challenge POST 503'), 20_000);
    await site.startAgent(0);
    await isBackend(page);
    assert.equal(seen.count('challenge POST 200'), 1, `${seen}`);
    assert.equal(seen.count('page GET 403'), 1, `${seen}`);
  });
  visiting('17: two agents with the same keys', { agents: 2 }, async (page, site, seen) => {
    for (let visits = 0; visits < 3; visits++) {
      const other = await tab(browser);
      const seen = watch(other);
      await other.goto(site.url(), { waitUntil: 'domcontentloaded' });
      await isBackend(other);
      for (let more = 0; more < 4; more++) {
        await other.goto(site.url('/' + more), { waitUntil: 'domcontentloaded' });
        assert.equal(await heading(other), 'backend');
      }
      assert.equal(seen.count('challenge POST'), 1);
      await other.end();
    }
  });
  test('9: cookies are blocked: it says so, and nothing reloads', async () => {
    const site = await real.start();
    const fs = require('node:fs');
    const path = require('node:path');
    const firefox = await launch('firefox', { prefs: { 'network.cookie.cookieBehavior': 2 } });
    const chromium = await launch('chromium', { prepare: profile => {
      fs.mkdirSync(path.join(profile, 'Default'), { recursive: true });
      fs.writeFileSync(path.join(profile, 'Default/Preferences'),
        JSON.stringify({ profile: { default_content_setting_values: { cookies: 2 } } }));
    } });
    try {
      for (const browser of [firefox, chromium]) {
        // Contexts of their own do not have the profile's settings in Chromium.
        const page = await browser.newPage();
        const seen = watch(page);
        await page.goto(site.url(), { waitUntil: 'domcontentloaded' });
        await says(page, EN.cookies);
        await sleep(300);
        assert.equal(seen.count('page GET'), 1, `${seen}`);
      }
    } finally {
      await Promise.all([firefox.close(), chromium.close()]);
      await site.end();
    }
  });
  test('10: no JavaScript: in after the wait, and not before', async () => {
    const site = await real.start();
    const firefox = await launch('firefox', { prefs: { 'javascript.enabled': false } });
    try {
      for (const [name, started] of [['chromium', browser], ['firefox', firefox]]) {
        const page = await tab(started);
        if (name == 'chromium') await page.setJavaScriptEnabled(false);
        const seen = watch(page);
        const begun = Date.now();
        const response = await page.goto(site.url('/kept?a=b'), { waitUntil: 'domcontentloaded' });
        const text = await response.text().catch(() => '');
        const [, early] = /url=([^"]+)"/.exec(text) || [];
        if (early) {
          const refused = await fetch(`http://127.0.0.1:${new URL(site.url()).port}${early.replace(/&amp;/g, '&')}`,
            { headers: { host: 'site.test', 'user-agent': await started.userAgent() }, redirect: 'manual' });
          assert.equal(refused.status, 403, 'it is too early');
          assert.equal(refused.headers.get('set-cookie'), null);
        }
        await until('the page behind', () => site.log.some(seen => seen.path == '/kept?a=b'));
        assert.ok(Date.now() - begun >= 1800, `${Date.now() - begun} ms`);
        site.log.length = 0;
        assert.equal(seen.count('challenge/pass GET 303'), 1, `${name}: ${seen}`);
        await page.end();
      }
    } finally {
      await firefox.close();
      await site.end();
    }
  });
});
