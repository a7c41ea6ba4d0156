// Browsers, sites and processes for the tests beside this. Everything listens on loopback alone, and whatever
// was started is ended by its process id.
'use strict';
const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const puppeteer = require('puppeteer-core');

const ROOT = path.join(__dirname, '../..');
const sleep = ms => new Promise(done => setTimeout(done, ms));

// Names that are not localhost, so that plain http is no secure context.
const HOSTS = ['site.test', 'sub.site.test', 'other.test', 'a.trusted.test', 'b.trusted.test', 'eviltrusted.test'];

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'challenge-'));
process.on('exit', () => fs.rmSync(scratch, { recursive: true, force: true }));

// A certificate for all of them that nobody trusts but these tests.
let certificate;
const certified = () => {
  if (!certificate) {
    const [key, cert] = ['key.pem', 'cert.pem'].map(name => path.join(scratch, name));
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
      '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=site.test',
      '-addext', 'subjectAltName=' + HOSTS.map(host => 'DNS:' + host).join()], { stdio: 'ignore' });
    fs.writeFileSync(path.join(scratch, 'both.pem'), fs.readFileSync(cert) + fs.readFileSync(key));
    certificate = { key: fs.readFileSync(key), cert: fs.readFileSync(cert), file: path.join(scratch, 'both.pem') };
  }
  return certificate;
};

const launch = async (name, { args = [], prefs = {}, prepare } = {}) => {
  const profile = fs.mkdtempSync(path.join(scratch, name));
  prepare?.(profile);
  const common = { headless: true, acceptInsecureCerts: true, userDataDir: profile, timeout: 60_000,
    protocolTimeout: 45_000 };
  if (name == 'firefox') {
    return puppeteer.launch({ ...common, browser: 'firefox', executablePath: process.env.FIREFOX || 'firefox-esr',
      extraPrefsFirefox: { 'network.dns.localDomains': HOSTS.join(), 'intl.accept_languages': 'en-US, en',
        'dom.security.https_first': false,
        // Its question whether to send a form again is a window of its own: it is answered with yes.
        'dom.confirm_repost.testing.always_accept': true, 'dom.security.https_only_mode': false, ...prefs } });
  }
  return puppeteer.launch({ ...common, executablePath: process.env.CHROMIUM || 'chromium',
    args: ['--no-sandbox', '--host-resolver-rules=MAP *.test 127.0.0.1', '--disable-features=HttpsUpgrades',
      '--disable-dev-shm-usage', '--lang=en-US', ...args] });
};

// A tab that shares nothing with others, and what went wrong in it.
const tab = async (browser, before) => {
  const context = await browser.createBrowserContext();
  // In a window, as tabs in the back are hidden and do nothing.
  const page = await context.newPage({ type: 'window' });
  page.setDefaultTimeout(30_000);
  page.faults = [];
  page.on('pageerror', error => {
    // Firefox reports what a policy forbids, and sockets that are refused, in the same way; some tests are
    // about that.
    if (!/Content-Security-Policy|establish a connection/.test(error)) page.faults.push(String(error));
  });
  await page.setViewport({ width: 800, height: 700 });
  if (before) await page.evaluateOnNewDocument(before);
  page.end = () => context.close();
  return page;
};

// What is done in a tab of its own, in which nothing may go wrong. It ends, and so does a site that is for it alone.
const inTab = async (browser, site, body) => {
  const page = await tab(browser);
  try {
    await body(page);
    assert.deepStrictEqual(page.faults, []);
  } finally {
    await page.end();
    await site?.end();
  }
};

// The browser's own path to a program, found where a shell finds it.
const find = name => {
  const found = process.env.PATH.split(':').map(folder => path.join(folder, name)).find(file => fs.existsSync(file));
  if (!found) throw new Error(`${name} is missing: run scripts/install-browsers`);
  return found;
};
process.env.FIREFOX ||= find('firefox-esr');
process.env.CHROMIUM ||= find('chromium');

// Waits until it is true, or is not false any more.
const until = async (what, condition, ms = 40_000) => {
  for (const end = Date.now() + ms; ;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await sleep(50);
  }
};

// What a page is about, and what it says. A page that is being left says nothing.
const heading = page => page.$eval('h1', element => element.textContent).catch(() => '');
const isHeaded = (page, text, ms) => until(`"${text}"`, async () => await heading(page) == text, ms);
// Not of all of the body: before Firefox has rendered one, its innerText is that of the scripts in it, too.
const says = (page, text) => until(`"${text}"`, async () =>
  (await page.$eval('main', element => element.innerText).catch(() => '')).includes(text));

// The built page as `ringspoa page --plain` fills it in, and the policy that goes with it.
const TEMPLATE = fs.readFileSync(path.join(ROOT, 'src/agents/challenge/page/challenge.html'), 'utf8');
const texts = language => {
  const file = path.join(ROOT, `src/agents/challenge/page/strings/${language}.json`);
  const of = JSON.parse(fs.readFileSync(file, 'utf8'));
  return { ...of, joined: Object.keys(of).sort().map(name => of[name]).join('|') };
};
const LANGUAGES = fs.readdirSync(path.join(ROOT, 'src/agents/challenge/page/strings')).map(name => name.slice(0, 2));
const fill = ({ config = {}, ...values } = {}) => {
  const all = { lang: 'en', noscript: '<p>Please turn JavaScript on for this site, and load the page again.</p>',
    config: JSON.stringify({ path: '/.challenge', probe: true, texts: { en: texts('en').joined }, ...config })
      .replace(/</g, '\\u003c'), ...values };
  return TEMPLATE.replace(/\{\{(\w+)\}\}/g, (_, name) => all[name] || '');
};
const hash = tag => {
  const text = TEMPLATE.split(`<${tag}>`)[1].split(`</${tag}>`)[0];
  return `'sha256-${crypto.createHash('sha256').update(text).digest('base64')}'`;
};
const POLICY = `default-src 'none'; script-src ${hash('script')} 'wasm-unsafe-eval'; style-src ${hash('style')}; `
  + `img-src data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'`;

module.exports = { HOSTS, LANGUAGES, POLICY, ROOT, certified, fill, heading, inTab, isHeaded, launch, says, scratch, sleep, tab,
  texts, until };
