// 20: how the page looks, reads and speaks, in Chromium and before the stand-in for the server. With SHOTS=FOLDER
// there are pictures of it.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, describe, test } = require('node:test');
const { LANGUAGES, inTab, launch, says, texts } = require('./support');
const stub = require('./stub');

const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

// How a page gets to be in each state, and what it says then.
const STATES = {
  wait: { terms: { a: 'wait', nb: 90, ttl: 300 }, text: 'title' },
  work: { terms: { a: 'sha256', w: 2 ** 31, k: 4000, nb: 0, ttl: 300 }, text: 'work' },
  error: { terms: { a: 'wait', nb: 0, ttl: 300 }, verify: () => ({ status: 400, body: { ok: false, code: 'format' } }),
    text: 'failed' },
  cookies: { terms: { a: 'wait', nb: 0, ttl: 300 }, verify: () => ({ status: 200, body: { ok: true, exp: 9 } }),
    probe: () => 403, text: 'cookies' },
  silent: { terms: { a: 'wait', nb: 0, ttl: 300 }, verify: () => ({ status: 503, body: { code: 'busy', retry: 99 } }),
    text: 'silent' },
  blocked: { terms: { a: 'turnstile', js: '/.captcha.js', g: 'captcha', sk: 'key', nb: 0, ttl: 300 }, text: 'blocked' },
  captcha: { terms: { a: 'turnstile', js: '/.captcha.js', g: 'captcha', sk: 'key', nb: 0, ttl: 300 },
    headers: { 'content-security-policy': "script-src 'self' 'unsafe-inline'" }, text: 'captcha' },
};
const own = { site: 'Example Shop', contact: '<a id="k" href="mailto:help@shop.test">Contact</a>' };

describe('look', { concurrency: 3 }, () => {
  let browser;
  before(async () => {
    browser = await launch('chromium');
  });
  after(() => browser?.close());

  const looking = (title, body) => test(title, { timeout: 90_000 }, async () => {
    const site = Object.assign(await stub.start(), { page: own, embedded: true });
    await inTab(browser, site, async page => {
      // Media features that puppeteer has no name for, too.
      page.media = async features => {
        const session = await page.createCDPSession();
        await session.send('Emulation.setEmulatedMedia', { features: Object.entries(features).map(([name, value]) => ({ name, value })) });
      };
      page.show = async (name, language = 'en') => {
        const { text, ...state } = STATES[name];
        Object.assign(site, { probe: null, verify: null, headers: {} }, state);
        await page.setExtraHTTPHeaders({ 'accept-language': language });
        await page.goto(site.url(), { waitUntil: 'domcontentloaded' });
        await says(page, texts(language)[text]);
      };
      page.shoot = async name => {
        if (!process.env.SHOTS) return;
        fs.mkdirSync(process.env.SHOTS, { recursive: true });
        await page.screenshot({ path: path.join(process.env.SHOTS, name + '.png') });
      };
      await body(page, site);
    });
  });

  for (const scheme of ['light', 'dark']) {
    looking(`axe finds nothing in any state, ${scheme}`, async page => {
      await page.media({ 'prefers-color-scheme': scheme });
      for (const name of Object.keys(STATES)) {
        await page.show(name);
        await page.evaluate(AXE);
        const found = await page.evaluate(async () => {
          // The provider's own widget is not ours.
          const { violations, incomplete, passes } = await axe.run({ exclude: ['#robot'] },
            { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] });
          const of = list => list.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.html + node.failureSummary)}`);
          return { violations: of(violations), contrast: of(incomplete.filter(({ id }) => id == 'color-contrast')), passes: passes.length };
        });
        assert.deepStrictEqual([found.violations, found.contrast], [[], []], name);
        assert.ok(found.passes > 10, `${found.passes} rules were looked at`);
        await page.shoot(`${scheme}-${name}`);
      }
    });
  }
  looking('colours of the system, and no motion', async page => {
    await page.media({ 'forced-colors': 'active', 'prefers-reduced-motion': 'reduce' });
    for (const name of ['work', 'error']) {
      await page.show(name);
      await page.shoot(`forced-colours-${name}`);
      assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
      assert.equal(await page.evaluate(() => matchMedia('(forced-colors: active)').matches), true);
    }
    // The button keeps an edge where its colour is taken away.
    assert.equal(await page.$eval('#b', button => getComputedStyle(button).borderTopStyle), 'solid');
  });
  for (const language of LANGUAGES) {
    looking(`${language} fits 320 pixels in every state`, async page => {
      await page.setViewport({ width: 320, height: 568 });
      for (const name of Object.keys(STATES)) {
        await page.show(name, language);
        const seen = await page.evaluate(() => ({
          lang: document.documentElement.lang,
          dir: getComputedStyle(document.body).direction,
          over: [...document.querySelectorAll('body *')].filter(element => {
            const { left, right } = element.getBoundingClientRect();
            return right > innerWidth + .5 || left < -.5 || element.scrollWidth > element.clientWidth + 1 && element.clientWidth;
          }).map(element => element.outerHTML),
          wide: document.documentElement.scrollWidth,
          bar: document.querySelector('progress').hidden,
        }));
        assert.deepStrictEqual([seen.lang, seen.dir], [language, language == 'ar' ? 'rtl' : 'ltr']);
        assert.deepStrictEqual([seen.over, seen.wide], [[], 320], `${name}`);
        if (['wait', 'error', 'work'].includes(name) && ['ar', 'de', 'en', 'ja'].includes(language)) {
          await page.shoot(`narrow-${language}-${name}`);
        }
      }
    });
  }
  looking('text of twice the size', async page => {
    await page.setViewport({ width: 640, height: 700 });
    for (const name of ['work', 'error']) {
      await page.show(name, 'de');
      await page.evaluate(() => {
        document.documentElement.style.fontSize = '32px';
      });
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 640);
      await page.shoot(`large-text-${name}`);
    }
  });
  looking('the keyboard gets to everything', async page => {
    await page.show('error');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'b');
    await page.shoot('focus');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'k');
  });
});
