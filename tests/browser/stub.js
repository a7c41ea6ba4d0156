// A stand-in for HAProxy and the agent, for what the real ones do not do at will: fail in every way there is, in
// the form that the page's README and the agent's replies have. It checks solutions as the agent does.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const path = require('node:path');
const { POLICY, certified, fill, texts } = require('./support');

const LIBRARIES = path.join(__dirname, 'node_modules');
const SOLVER = path.join(__dirname, '../../src/agents/challenge/page/solver.js');

// Whether the nonces solve the challenge.
const solves = ({ ch, w, k, it }, solution) => {
  const nonces = solution.split(',');
  const raw = Buffer.from(ch, 'base64url');
  const seed = crypto.createHash('sha256').update(it ? 'pbk1' : 'pow1').update(raw).digest();
  const target = (1n << 64n) / BigInt(Math.max(1, Math.floor(w / k)));
  return nonces.length == k && nonces.every((nonce, part) => {
    if (!/^[0-9a-f]{1,16}$/.test(nonce)) return false;
    const message = Buffer.alloc(12);
    message.writeUInt32BE(part);
    message.writeBigUInt64BE(BigInt('0x' + nonce), 4);
    const digest = it ? crypto.pbkdf2Sync(seed, message, it, 32, 'sha256')
      : crypto.createHash('sha256').update(seed).update(message).digest();
    return digest.readBigUInt64BE() < target;
  });
};

const start = async ({ secure = false } = {}) => {
  const site = {
    // What a test may change: terms of a challenge, headers and parts of the page, and a function that answers
    // solutions in place of the check.
    terms: { a: 'sha256', w: 4096, k: 8, nb: 0, ttl: 300 },
    headers: {},
    page: {},
    embedded: false,
    probe: null,
    verify: null,
    issue: null,
    log: [],
  };
  const open = new Map();
  const cleared = new Set();
  let count = 0;

  site.challenge = language => {
    const ch = crypto.randomBytes(88).toString('base64url');
    const number = String(++count).padStart(4, '0');
    const challenge = { v: 1, ...site.terms, ch, sid: `TEST-TEST-${number}` };
    if (language) Object.assign(challenge, { l: language, t: texts(language).joined });
    open.set(ch, challenge);
    return challenge;
  };
  const language = request => {
    const code = (request.headers['accept-language'] || '').slice(0, 2);
    return code == 'en' || !/^(ar|cs|de|es|fr|it|ja|nl|pl|pt|ru|tr|uk|zh)$/.test(code) ? '' : code;
  };

  const answer = (request, response, body) => {
    const { pathname } = new URL(request.url, 'http://site.test');
    const token = /(?:^|; )clearance=(\w+)/.exec(request.headers.cookie || '')?.[1];
    const isClear = cleared.has(token);
    site.log.push({ method: request.method, path: pathname, body, isClear, mode: request.headers['sec-fetch-mode'] });
    const reply = (status, type, text, headers = {}) => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', ...headers });
      response.end(text);
    };
    const json = (status, value, headers) => reply(status, 'application/json', JSON.stringify(value), headers);

    if (pathname == '/.challenge/ok') {
      const status = site.probe ? site.probe() : isClear ? 204 : 403;
      return reply(status, 'text/plain', '');
    }
    if (pathname == '/.challenge' && request.method == 'GET') {
      const own = site.issue?.();
      return own ? json(own.status || 503, own.body || {}, own.headers) : json(200, site.challenge(language(request)));
    }
    if (pathname == '/.challenge') {
      const [, ch, solution] = /^([^.]*)\.(.*)$/.exec(body) || [];
      const challenge = open.get(ch);
      const own = site.verify?.({ challenge, solution, body });
      if (own) return own === true ? request.socket.destroy() : json(own.status || 403, own.body || {}, own.headers);
      if (!challenge) return json(403, { ok: false, code: 'mac', next: site.challenge() });
      if (challenge.k && !solves(challenge, solution)) return json(403, { ok: false, code: 'work', next: site.challenge() });
      const fresh = crypto.randomBytes(8).toString('hex');
      cleared.add(fresh);
      return json(200, { ok: true, exp: 3600 },
        { 'set-cookie': `clearance=${fresh}; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}` });
    }
    if (pathname.startsWith('/.library/')) {
      const file = pathname == '/.library/solver.js' ? SOLVER : path.join(LIBRARIES, pathname.slice(10));
      return fs.existsSync(file) ? reply(200, 'text/javascript', fs.readFileSync(file)) : reply(404, 'text/plain', '');
    }
    if (pathname == '/.empty') return reply(200, 'text/html', '<!doctype html><title>empty</title>');
    if (pathname == '/.captcha.js') {
      return reply(200, 'text/javascript', `window.captcha = { render(box, { sitekey, callback }) {
        box.innerHTML = '<button id="robot">' + sitekey + '</button>';
        box.firstChild.onclick = () => callback('answer.of-' + sitekey);
      } };`);
    }
    if (isClear) return reply(200, 'text/html', `<!doctype html><title>backend</title><h1>backend</h1><pre>${body}</pre>`);
    if (request.headers['sec-fetch-mode'] && request.headers['sec-fetch-mode'] != 'navigate') {
      return json(403, { challenge: 'required' }, { 'x-challenge': 'required' });
    }
    const embedded = site.embedded ? JSON.stringify(site.challenge(language(request))) : '';
    reply(403, 'text/html; charset=utf-8', fill({ challenge: embedded, method: request.method, ...site.page }),
      { 'content-security-policy': POLICY, ...site.headers });
  };
  const listener = (request, response) => {
    const chunks = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => answer(request, response, Buffer.concat(chunks).toString()));
  };
  const server = secure ? https.createServer(certified(), listener) : http.createServer(listener);
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  site.url = (address = '/', host = 'site.test') => `http${secure ? 's' : ''}://${host}:${port}${address}`;
  site.count = (method, address) => site.log.filter(seen => seen.method == method && seen.path == address).length;
  site.end = () => {
    server.closeAllConnections();
    return new Promise(done => server.close(done));
  };
  return site;
};

module.exports = { start };
