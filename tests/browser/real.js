// The server and HAProxy, with the samples of dist/ changed no further than a test needs.
'use strict';
const { execFileSync, spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { ROOT, certified, scratch, sleep, until } = require('./support');

const RINGSPOA = process.env.RINGSPOA || path.join(ROOT, 'target/debug/ringspoa');
const VERSION = process.env.HAPROXY_VERSION || '3.2';
const HAPROXY = path.join(ROOT, '.haproxy', VERSION, 'haproxy');

const SETTINGS = `
[challenge]
[[challenge.key]]
id = 1
secret = "YSBrZXkgb2YgdGVzdHMgaW4gYnJvd3NlcnMsIG9uZS4uLg=="
[[challenge.realm]]
name = "default"
trusted-domains = ["trusted.test"]
nojs = "refresh"
nojs-wait-s = 2
nojs-duration-s = 600
[[challenge.realm.level]]
type = "pow"
work = 65536
parts = 16
[[challenge.realm.level]]
type = "wait"
wait-s = 1
duration-s = 600
`;

const port = () => new Promise(done => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => done(port));
  });
});
const ended = child => new Promise(done => child.exitCode !== null || child.signalCode ? done() : child.once('exit', done));
const stop = async child => {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await ended(child);
  clearTimeout(timer);
};
const run = (program, flags, log) => {
  const out = fs.openSync(log, 'a');
  const child = spawn(program, flags, { stdio: ['ignore', out, out] });
  fs.closeSync(out);
  return child;
};
const replaced = (text, pairs) => pairs.reduce((text, [from, to]) => {
  if (!text.includes(from)) throw new Error(`the sample has no "${from}" any more`);
  return text.replaceAll(from, to);
}, text);

// The samples, as they have to be changed to run here.
const SAMPLES = {
  challenge: {
    prepare: file => execFileSync(RINGSPOA, ['page', '--config', file('ringspoa.toml'), '--site', 'Site of tests',
      '--no-js', 'refresh', '--output', file('challenge.html')]),
    changes: file => [
      ['lf-file /etc/haproxy/challenge.html', `lf-file ${file('challenge.html')}`],
      ['-f /etc/haproxy/challenge-never.lst', `-f ${path.join(ROOT, 'dist/challenge-never.lst')}`],
      // A visitor of many tests, who comes from where a header says.
      ['challenge-limits) ge 20', 'challenge-limits) ge 2000'],
      ['challenge-limits) gt 120', 'challenge-limits) gt 12000'],
      ['    # ---- Who has to prove it', '    http-request set-src req.hdr(x-from) if { req.hdr(x-from) -m found }\n    # ---- Who has to prove it'],
    ],
    secureBind: '# bind :443 ssl crt /etc/haproxy/site.pem',
    processing: 'processing 100ms',
  },
  crowdsec: {
    prepare: () => {},
    changes: () => [['/usr/share/ringspoa/pages', path.join(ROOT, 'dist/pages')]],
    processing: 'processing 500ms',
  },
};

// One of the samples, with so many agents of the same settings, and its text changed as given.
const start = async ({ sample = 'challenge', agents = 1, settings = SETTINGS, changes = [] } = {}) => {
  const { prepare, changes: own, secureBind, processing } = SAMPLES[sample];
  const folder = fs.mkdtempSync(path.join(scratch, 'real-'));
  const file = name => path.join(folder, name);
  const site = { log: [] };

  // The application: what arrives there.
  const app = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      site.log.push({ method: request.method, path: request.url, body, cookie: request.headers.cookie });
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end(`<!doctype html><title>backend</title><h1>backend</h1><pre>${body}</pre>`);
    });
  });
  await new Promise(done => app.listen(0, '127.0.0.1', done));
  // Where what follows fails, nothing waits for it.
  app.unref();

  fs.writeFileSync(file('ringspoa.toml'), settings);
  prepare(file);
  const sockets = Array.from({ length: agents }, (_, number) => file(`spop-${number}.sock`));
  const started = [];
  site.startAgent = async number => {
    const flags = ['serve', '--config', file('ringspoa.toml'), '--listen', `unix:${sockets[number]}`, '--cores', '0'];
    started[number] = run(RINGSPOA, flags, file('agent.log'));
    await until('the agent', () => {
      if (started[number].exitCode !== null) throw new Error(fs.readFileSync(file('agent.log'), 'utf8'));
      return fs.existsSync(sockets[number]);
    });
  };
  site.killAgent = async number => {
    started[number].kill('SIGKILL');
    await ended(started[number]);
    fs.rmSync(sockets[number], { force: true });
  };
  await Promise.all(sockets.map((_, number) => site.startAgent(number)));

  const [plain, secure] = [await port(), await port()];
  const dist = path.join(ROOT, 'dist', Number(VERSION) >= 3.1 ? 'haproxy-3.1' : 'haproxy-2.6');
  const read = name => fs.readFileSync(path.join(dist, name), 'utf8');
  const servers = sockets.map((socket, number) => `server ringspoa${number} unix@${socket} check inter 1s fall 5`);
  const secureChange = secureBind && [secureBind, `bind 127.0.0.1:${secure} ssl crt ${certified().file}`];
  const text = replaced(read(`${sample}.cfg`), [
    [`/etc/haproxy/${sample}.spoe.cfg`, file('spoe.cfg')],
    ['bind :80', `bind 127.0.0.1:${plain}`],
    ['127.0.0.1:8000', `127.0.0.1:${app.address().port}`],
    ...(secureChange ? [secureChange] : []),
    ...own(file),
    ...changes,
  ]).replace(/server ringspoa unix@\/run\/ringspoa\/ringspoa\.sock check.*/g, servers.join('\n    '));
  fs.writeFileSync(file('haproxy.cfg'), `global\n    log stdout format raw local0\n    stats socket unix@${file('stats.sock')} level admin\n${text}`);
  // A machine that does much else is no reason to fail.
  fs.writeFileSync(file('spoe.cfg'), replaced(read(`${sample}.spoe.cfg`), [[processing, 'processing 5s']]));
  const haproxy = run(HAPROXY, ['-db', '-f', file('haproxy.cfg')], file('haproxy.log'));
  site.output = () => fs.readFileSync(file('haproxy.log'), 'utf8');
  // What it says of the configuration, without running it.
  site.check = () => spawnSync(HAPROXY, ['-c', '-f', file('haproxy.cfg')], { encoding: 'utf8' });
  await until('HAProxy', () => {
    if (haproxy.exitCode !== null) throw new Error(site.output());
    return new Promise(done => {
      const socket = net.connect(plain, '127.0.0.1', () => done(socket.end()));
      socket.on('error', () => done(false));
    });
  });
  // Until its checks have found the agents.
  await sleep(400);

  site.url = (address = '/', host = 'site.test') => `http://${host}:${plain}${address}`;
  site.secureUrl = (address = '/', host = 'site.test') => `https://${host}:${secure}${address}`;
  // On HAProxy's own socket.
  site.command = line => new Promise((done, refuse) => {
    let reply = '';
    net.connect(file('stats.sock')).on('data', data => {
      reply += data;
    }).on('end', () => done(reply)).on('error', refuse).end(line + '\n');
  });
  site.end = async () => {
    await Promise.all([haproxy, ...started].map(stop));
    app.closeAllConnections();
    await new Promise(done => app.close(done));
  };
  return site;
};

module.exports = { start, SETTINGS };
