// What the visitor is told, what is asked of the server, and when. The build puts STRINGS and solver.js
// before this. There is no percent sign in here, for HAProxy's lf-file.
const $ = id => document.getElementById(id);
const parse = text => {
  try {
    return JSON.parse(text) || 0;
  } catch {
    return 0;
  }
};
const write = (id, text) => $(id).textContent = text;
const sleep = ms => new Promise(done => setTimeout(done, ms));

const root = document.documentElement;
const config = parse($('c').textContent);
const path = config.path || '/.challenge';

// All texts of a language are one string, in the order of their names. The page has some languages, and the
// one that the visitor's browser asks for comes with the challenge.
const texts = config.texts;
let about, again, blocked, captcha, contact, cookies, ready, failed, form, go, id, silent, title, work;
const speak = tag => {
  root.lang = tag;
  root.dir = tag == 'ar' ? 'rtl' : '';
  [about, again, blocked, captcha, contact, cookies, ready, failed, form, go, id, silent, title, work]
    = Object.assign(texts[tag].split('|'), config.strings);
  write('l', $('i').textContent && id);
  if ($('k')) write('k', contact);
};

// The challenge, and when it came. Only differences are taken of the visitor's clock, which may be wrong by
// days.
let challenge, born;
const take = reply => {
  challenge = reply || 0;
  born = Date.now();
  const { l, t } = challenge;
  if (t && !config.lang) {
    texts[l] = texts[l] || t;
    speak(l);
  }
};

// ---- what is shown

const head = text => document.title = write('h', text);
// Read aloud, so only where something has changed.
const status = text => write('s', text);
const button = (text, action) => {
  $('b').hidden = !text;
  write('b', text);
  $('b').onclick = action;
};
const estimate = seconds => about.replace('#', Math.ceil(seconds));
const progress = (value, seconds) => {
  const bar = $('p');
  const quarter = Math.floor(value * 4);
  if (quarter > Math.floor(bar.value * 4) && value < 1 || !$('s').textContent && seconds > 2) {
    status((quarter / 4).toLocaleString(root.lang, { style: 'percent' })
      + (seconds > 2 ? ' · ' + estimate(seconds) : ''));
  }
  bar.value = value;
};
const begin = () => {
  head(title);
  write('t', challenge.k ? work : '');
  write('l', write('i', challenge.sid || $('i').textContent) && id);
  status('');
  button('');
  $('p').value = 0;
  $('p').hidden = false;
};
const fail = text => {
  head(text);
  write('t', '');
  status('');
  $('p').hidden = true;
  write('w', '');
  button(again, run);
  $('h').focus();
};

// ---- what is asked of the server

const request = (method, url, body) => new Promise(done => {
  const x = new XMLHttpRequest;
  x.open(method, url);
  x.timeout = 2e4;
  x.onloadend = () => done(x);
  x.send(body);
});
// Asks until the server has answered, or six times. The probe is answered by a status alone.
const ask = async (method, body, probe = '') => {
  for (let tries = 0; tries < 6; tries++) {
    const x = await request(method, path + probe, body);
    const reply = probe ? { ok: x.status == 204, ch: x.status == 403 } : parse(x.responseText);
    if (reply.ok || reply.ch || reply.code && !/early|busy|provider/.test(reply.code)) return reply;
    const seconds = reply.retry || +x.getResponseHeader('Retry-After') || 2 ** tries * (1 + Math.random());
    await new Promise(done => {
      status(silent + ' (' + estimate(seconds) + ')');
      button(again, done);
      setTimeout(done, seconds * 1e3);
    });
    status('');
    button('');
  }
  throw silent;
};

// ---- one tab of several

// The tabs of a site tell each other that they search, by a number of which the lowest goes first, and that
// one of them is through, by 0. Where there is no such channel each tab searches.
const me = Date.now() + Math.random();
let gone, pause;
let channel = { postMessage() {} };
try {
  channel = new BroadcastChannel('challenge');
} catch {}
const claim = () => channel.postMessage(me);
channel.onmessage = ({ data }) => {
  // What a page says last may reach its own next self, which must not go on in circles by it.
  if (!data) $('b').hidden && leave();
  else if (pause) data < me ? pause() : claim();
};

// ---- ways to solve

// Nonces for all parts, found by a worker, by more if it takes long, or on the page where workers are
// forbidden or do not answer.
const search = ({ ch, w, k, it }) => new Promise((done, refuse) => {
  const job = { c: ch, w: Math.floor(w / k) || 1, i: it };
  const nonces = [];
  let left = k, next = 0, crew = [], find, timer;
  const start = () => {
    timer = 0;
    claim();
    if (!find) {
      timer = setTimeout(fall, 3e3);
      hire();
    }
  };
  const stop = () => {
    clearTimeout(timer);
    timer = next = 0;
    crew.map(worker => worker.terminate());
    crew = [];
  };
  pause = () => {
    stop();
    timer = gone || setTimeout(start, 3e3);
  };
  const open = () => {
    while (nonces[next]) next++;
    return next++;
  };
  // Takes what was found, and gives the seconds that the rest takes of one worker.
  const put = ([rate, part, nonce]) => {
    if (!nonce || nonces[part]) return;
    nonces[part] = nonce;
    claim();
    const seconds = --left * job.w / rate / 1e3;
    progress(1 - left / k, seconds / (crew.length || 1));
    if (!left) {
      stop();
      pause = 0;
      done(nonces.join());
    }
    return seconds;
  };
  const hire = () => {
    try {
      const worker = new Worker(source);
      crew.push(worker);
      worker.onerror = fall;
      worker.onmessage = ({ data }) => {
        clearTimeout(timer);
        if (!data) return fall();
        if (put(data) > .8 * crew.length && crew.length < Math.min(4, navigator.hardwareConcurrency / 2 | 0)) hire();
        const part = open();
        if (part < k) worker.postMessage(part);
      };
    } catch {
      fall();
    }
  };
  const fall = async () => {
    stop();
    if (find) return;
    job.p = 1;
    find = solver(job);
    try {
      while (left) {
        while (timer) await sleep(99);
        put(await find(open()));
      }
    } catch (e) {
      refuse(e);
    }
  };
  const source = URL.createObjectURL(new Blob(['const f=(' + solver + ')(' + JSON.stringify(job)
    + ');postMessage([]);onmessage=e=>f(e.data).catch(()=>0).then(postMessage)']));
  start();
});

// The token of a provider of captchas: all have the same call, and their names come with the challenge.
const widget = ({ js, g, sk }) => new Promise((done, refuse) => {
  if (!self[g]) {
    const script = document.createElement('script');
    script.src = js;
    script.onerror = () => refuse(blocked);
    root.append(script);
  }
  write('t', captcha);
  write('w', '');
  $('p').hidden = true;
  const box = document.createElement('div');
  $('w').append(box);
  const timer = setInterval(() => {
    if (self[g] && self[g].render) {
      clearInterval(timer);
      self[g].render(box, { sitekey: sk, callback: done });
    }
  }, 99);
});

// ---- the whole

const old = () => {
  const age = Date.now() - born;
  return age < 0 || age > challenge.ttl * 1e3;
};
const recent = () => (sessionStorage.challenge || '').split(',').filter(time => Date.now() - time < 6e4);

const leave = () => {
  gone = 1;
  if (pause) pause();
  // The browser asks before it sends a form again, so the visitor says when.
  if (/^(GET|HEAD|\W.*|)$/.test(root.dataset.method)) {
    status(ready);
    sessionStorage.challenge = [...recent(), Date.now()];
    location.reload();
  } else {
    status(form);
    button(go, () => location.reload());
  }
};

const run = async () => {
  begin();
  try {
    if (recent().length > 2) {
      sessionStorage.challenge = '';
      throw failed;
    }
    // Prerendered pages are hidden, too.
    while (document.hidden) await new Promise(done => document.addEventListener('visibilitychange', done));
    for (let refused = 0; refused < 3; refused++) {
      if (!challenge.ch || old()) take(await ask('GET'));
      begin();
      const { ch, k, js, nb } = challenge;
      if (!ch) break;
      const solution = k ? await search(challenge) : js ? await widget(challenge) : '';
      for (let seconds; (seconds = nb - (Date.now() - born) / 1e3) > 0;) {
        if (!k && !js) progress(1 - seconds / nb, seconds);
        await sleep(Math.min(250, seconds * 1e3));
      }
      if (old()) challenge = 0;
      else {
        const reply = await ask('POST', ch + '.' + solution);
        if (reply.ok) {
          if (config.probe !== false && !(await ask('GET', null, '/ok')).ok) throw cookies;
          channel.postMessage(0);
          return leave();
        }
        if (/host|format/.test(reply.code)) break;
        take(reply.next);
      }
    }
    throw failed;
  } catch (e) {
    challenge = 0;
    // Browsers that keep no cookies forbid the storage as well.
    fail(e.big ? e : e.code == 18 ? cookies : failed);
  }
};

speak([config.lang, ...navigator.languages || []]
  .map(tag => (tag + '').slice(0, 2).toLowerCase())
  .find(tag => texts[tag]) || Object.keys(texts)[0]);
take(parse($('q').textContent));
run();
