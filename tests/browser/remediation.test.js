// Visits of both browsers to the pages of [remediation], behind HAProxy: a captcha, with a stand-in for its
// provider, and a ban.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { after, before, describe, test } = require('node:test');
const { inTab, isHeaded, launch, scratch } = require('./support');
const real = require('./real');

// What a provider's script does: fills the element of its class, and calls back once there is a solution.
const SCRIPT = `(function fill() {
  var box = document.querySelector('.stub-captcha');
  if (!box) return setTimeout(fill, 20);
  box.innerHTML = '<input type="hidden" name="stub-captcha-response">'
    + '<button type="button" id="good">Human</button><button type="button" id="bad">Robot</button>';
  box.addEventListener('click', function(event) {
    box.querySelector('input').value = event.target.id;
    window[box.dataset.callback]();
  });
})()`;

const startProvider = async () => {
  const asked = [];
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => {
      if (request.url == '/api.js') {
        return response.writeHead(200, { 'content-type': 'text/javascript' }).end(SCRIPT);
      }
      const form = new URLSearchParams(Buffer.concat(chunks).toString());
      asked.push(form);
      response.writeHead(200, { 'content-type': 'application/json' });
      return response.end(JSON.stringify({ success: form.get('response') == 'good' }));
    });
  });
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  const end = () => {
    server.closeAllConnections();
    return new Promise(done => server.close(done));
  };
  return { asked, end, url: `http://127.0.0.1:${server.address().port}` };
};

let lists = 0;
const settings = (remediation, provider) => {
  const list = path.join(scratch, `list-${++lists}.csv`);
  fs.writeFileSync(list, `127.0.0.1,${remediation}\n`);
  return `
agent-deadline-ms = 4500
[remediation]
[[remediation.list]]
path = "${list}"
[[remediation.host]]
host = "site.test"
[remediation.host.ban]
contact-us-url = "https://help.example/?a=1&b=2"
[remediation.host.captcha]
provider = "custom"
site-key = "the-site-key"
secret-key = "hush"
signing-key = "0123456789abcdef0123456789abcdef"
timeout = 4
[remediation.host.captcha.custom]
script = "${provider}/api.js"
class = "stub-captcha"
field = "stub-captcha-response"
url = "${provider}/siteverify"
`;
};

const HUMAN = 'Please confirm that you are human';

for (const name of ['chromium', 'firefox']) {
  describe(name, () => {
    let browser, provider;
    before(async () => {
      [browser, provider] = [await launch(name), await startProvider()];
    });
    after(async () => {
      await browser?.close();
      await provider?.end();
    });
    const visiting = (title, remediation, body) => test(title, { timeout: 90_000 }, async () => {
      const site = await real.start({ sample: 'crowdsec', settings: settings(remediation, provider.url) });
      await inTab(browser, site, page => body(page, site));
    });

    visiting('a captcha is solved once, and the visitor has the page that was asked for', 'captcha', async (page, site) => {
      await page.goto(site.url('/a?b=c'), { waitUntil: 'domcontentloaded' });
      await isHeaded(page, HUMAN);
      await page.waitForSelector('#bad');
      assert.equal(await page.$eval('.stub-captcha', element => element.dataset.sitekey), 'the-site-key');
      await Promise.all([page.waitForNavigation({ waitUntil: 'domcontentloaded' }), page.click('#bad')]);
      await isHeaded(page, HUMAN);
      await page.waitForSelector('#good');
      await page.click('#good');
      await isHeaded(page, 'backend');
      assert.equal(page.url(), site.url('/a?b=c'));
      assert.deepStrictEqual(provider.asked.map(form => form.get('response')), ['bad', 'good']);
      assert.deepStrictEqual(site.log.map(({ method, path }) => `${method} ${path}`).filter(one => !/favicon/.test(one)),
        ['GET /a?b=c']);
      await page.goto(site.url('/another'), { waitUntil: 'domcontentloaded' });
      await isHeaded(page, 'backend');
      assert.equal(provider.asked.length, 2);
    });

    // Firefox can be told so only for all of its pages.
    if (name == 'chromium') visiting('without JavaScript it says what it needs', 'captcha', async (page, site) => {
      await page.setJavaScriptEnabled(false);
      const response = await page.goto(site.url(), { waitUntil: 'domcontentloaded' });
      assert.match(await response.text(), /<noscript><p role="alert">This needs JavaScript/);
      assert.equal(await page.$eval('[role=alert]', element => element.getClientRects().length > 0), true);
    });

    visiting('a ban is a page with whom to ask', 'ban', async (page, site) => {
      const response = await page.goto(site.url(), { waitUntil: 'domcontentloaded' });
      assert.equal(response.status(), 403);
      assert.equal(await page.$eval('a', element => element.href), 'https://help.example/?a=1&b=2');
      assert.equal(site.log.length, 0);
    });
  });
}
