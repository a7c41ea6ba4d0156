// The search for the nonces of one challenge. Nothing in here reaches outside of the function, as its text
// is also the source of the worker.
//
// job.c  the challenge, in base64url
// job.w  how many hashes a part takes on average
// job.i  iterations of PBKDF2, or nothing where the hash is SHA-256
// job.p  whether it runs on the page, which has to stay usable meanwhile
//
// What comes back is a function from the number of a part to a promise of
// [hashes a millisecond, the part, its nonce in hex].
const solver = job => {
  // The constants of SHA-256 are the fractions of roots of primes; an array of integers drops the rest.
  const K = new Int32Array(64);
  const start = new Int32Array(8);
  for (let prime = 2, count = 0, composite = []; count < 64; prime++) {
    if (!composite[prime]) {
      for (let multiple = prime; multiple < 312; multiple += prime) composite[multiple] = 1;
      start[count] = prime ** .5 * 2 ** 32;
      K[count++] = prime ** (1 / 3) * 2 ** 32;
    }
  }

  // One block and what is derived from it. In the search that is seed (8 words), part, nonce (2 words, of
  // which one is enough for 300 s at ten million hashes a second), padding, length.
  const W = new Int32Array(64);
  const state = start.slice();

  // Two rotations of x, and what is rotated or shifted by the caller.
  const sigma = (x, p, q, rest) => (x >>> p | x << 32 - p) ^ (x >>> q | x << 32 - q) ^ rest;

  // Hashes the block after the words in `from`, into `state`. Plain assignments, here and below, run three
  // times as fast as lists and loops over them.
  const compress = from => {
    let a = from[0], b = from[1], c = from[2], d = from[3], e = from[4], f = from[5], g = from[6], h = from[7];
    let t = 16;
    for (; t < 64; t++) {
      const x = W[t - 2], y = W[t - 15];
      W[t] = sigma(x, 17, 19, x >>> 10) + W[t - 7] + sigma(y, 7, 18, y >>> 3) + W[t - 16];
    }
    for (t = 0; t < 64; t++) {
      const sum = h + sigma(e, 6, 11, e >>> 25 | e << 7) + (g ^ e & (f ^ g)) + K[t] + W[t] | 0;
      h = g;
      g = f;
      f = e;
      e = d + sum | 0;
      d = c;
      c = b;
      b = a;
      a = sum + sigma(a, 2, 13, a >>> 22 | a << 10) + (c & d ^ a & (c ^ d)) | 0;
    }
    state[0] = from[0] + a;
    state[1] = from[1] + b;
    state[2] = from[2] + c;
    state[3] = from[3] + d;
    state[4] = from[4] + e;
    state[5] = from[5] + f;
    state[6] = from[6] + g;
    state[7] = from[7] + h;
  };

  // The seed: the hash of a label and the challenge, which take two blocks.
  const message = (job.i ? 'pbk1' : 'pow1') + atob(job.c.replace(/-/g, '+').replace(/_/g, '/')) + '\x80';
  for (let block = 0; block * 64 < message.length + 8; block++) {
    for (let t = 0; t < 16; t++) {
      W[t] = 0;
      for (let i = 0; i < 4; i++) W[t] = W[t] << 8 | message.charCodeAt(block * 64 + t * 4 + i);
    }
    if (block * 64 + 56 >= message.length) W[15] = message.length * 8 - 8;
    compress(state);
  }
  W.fill(0);
  W.set(state);
  W[11] = 1 << 31;
  W[15] = 44 * 8;

  // A hash is good if its first word is not above this. The server compares 64 bits with 2^64 / w, so what is
  // good here is good there, and what is missed is one in 2^32 / w.
  const target = 2 ** 32 / job.w - 1;

  // Engines look at the nonces from n to before end, and give the good one or -1. This one is for where
  // WebAssembly is not to be had.
  const plain = (n, end) => {
    for (; n < end; n++) {
      W[10] = n;
      compress(start);
      if (state[0] >>> 0 <= target) return n;
    }
    return -1;
  };

  // This one needs a secure context. It is slow, except where JavaScript is interpreted.
  const native = async (n, end) => {
    const subtle = crypto.subtle;
    const key = job.i && await subtle.importKey('raw', bytes(32), 'PBKDF2', 0, ['deriveBits']);
    const hashes = await Promise.all(Array.from({ length: end - n }, (_, i) => {
      W[10] = n + i;
      const block = bytes(44);
      return key
        ? subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-256', salt: block.slice(32), iterations: job.i }, key, 64)
        : subtle.digest('SHA-256', block);
    }));
    const found = hashes.findIndex(hash => new DataView(hash).getUint32() <= target);
    return found < 0 ? found : n + found;
  };
  const bytes = count => Uint8Array.from({ length: count }, (_, i) => W[i >> 2] >> 24 - 8 * i);

  // This one is a WebAssembly module that is put together here: all rounds in a row, with their constants,
  // and before the loop whatever does not depend on the nonce. It is both shorter than any module it could
  // be read from, and faster than one that small.
  const assemble = async () => {
    const XOR = -115, AND = -113, ADD = -106;
    // Locals: the words of the block (the nonce is number 10), the end of the search, the target, and the
    // values that a and e had after each round, from -4 on; b, c, d and f, g, h are the ones before.
    const NONCE = 10, END = 64, TARGET = 65;
    const A = t => t + 70, E = t => t + 138;
    const code = [];
    const leb = n => n > 63 || n < -64 ? [n & 127 | 128, ...leb(n >> 7)] : [n & 127];
    const put = (...list) => code.push(...list);
    // Instructions are negative here; the rest are locals to get.
    const emit = (...list) => list.map(item => item < 0 ? put(-item) : put(32, ...leb(item)));
    const set = local => put(33, ...leb(local));
    const number = n => put(65, ...leb(n));
    // Rotations of a local, or a shift where negative, xored.
    const mix = (local, ...list) => list.map((by, i) => {
      emit(local);
      number(by < 0 ? -by : by);
      put(by < 0 ? 118 : 120);
      if (i) emit(XOR);
    });
    const varies = [];
    const expand = t => {
      mix(t - 2, 17, 19, -10);
      mix(t - 15, 7, 18, -3);
      emit(ADD, t - 7, ADD, t - 16, ADD);
      set(t);
    };
    const round = t => {
      const a = A(t - 1), b = A(t - 2), c = A(t - 3), e = E(t - 1), f = E(t - 2), g = E(t - 3);
      mix(e, 6, 11, 25);
      number(K[t]);
      emit(ADD, t, ADD, E(t - 4), ADD, g, e, f, g, XOR, AND, XOR, ADD);
      set(A(t));
      emit(A(t), A(t - 4), ADD);
      set(E(t));
      mix(a, 2, 13, 22);
      emit(A(t), ADD, a, b, XOR, b, c, XOR, AND, b, XOR, ADD);
      set(A(t));
    };
    for (let t = 0; t < 8; t++) {
      number(start[t]);
      set(t < 4 ? A(-1 - t) : E(3 - t));
    }
    for (let t = 0; t < 64; t++) {
      varies[t] = t == NONCE || t > 15 && (varies[t - 2] || varies[t - 7] || varies[t - 15] || varies[t - 16]);
      if (t > 15 && !varies[t]) expand(t);
      if (t < NONCE) round(t);
    }
    put(3, 64); // loop
    for (let t = NONCE; t < 64; t++) {
      if (t > 15 && varies[t]) expand(t);
      round(t);
    }
    // Again, unless a is good (le_u, eqz), with the next nonce, unless it is the end (ne); then the last.
    emit(A(63));
    number(start[0]);
    emit(ADD, TARGET, -77, -69, NONCE);
    number(1);
    put(106, 34, NONCE);
    emit(END);
    put(71, 113, 13, 0, 11);
    emit(NONCE);
    number(1);
    put(107, 11);

    // One function of 66 integers, named f, with the rest of the locals.
    const body = [1, ...leb(140), 127, ...code];
    const length = leb(body.length);
    const { instance } = await WebAssembly.instantiate(new Uint8Array([
      0, 97, 115, 109, 1, 0, 0, 0,
      1, ...leb(72), 1, 96, ...leb(66), ...Array(66).fill(127), 1, 127,
      3, 2, 1, 0,
      7, 5, 1, 1, 102, 0, 0,
      10, ...leb(body.length + length.length + 1), 1, ...length, ...body
    ]));
    return (n, end) => {
      W[10] = n;
      // What it stopped at is looked at once more, as it may be just the last.
      n = instance.exports.f(...W, end, target) >>> 0;
      return plain(n, n + 1);
    };
  };

  // The first engine that is fast enough, or else the best. They take turns in the search itself, some 30 ms
  // each, so that nothing is lost.
  const engines = [job.i ? native : plain];
  const rates = [];
  let engine, since, count, best;
  const use = next => {
    engine = next;
    since = performance.now();
    count = best = 0;
  };
  const ready = (async () => {
    if (!job.i) {
      // Missing, or forbidden by a policy.
      try {
        engines.unshift(await assemble());
      } catch {}
      if (self.crypto && crypto.subtle) engines.push(native);
    }
    // What it takes to be compiled does not count.
    await engines[0](0, 1);
    use(engines[0]);
  })();

  return async part => {
    await ready;
    for (let n = 0, size = 4; ;) {
      W[8] = part;
      const then = performance.now();
      const found = await engine(n, n + size);
      const now = performance.now();
      count += size;
      if (found >= 0) return [count / (now - since), part, found.toString(16)];
      n += size;
      // The best, as the rest has waited for the compiler or for other programs.
      if (now > then) best = Math.max(best, size / (now - then));
      if (now - then < 5) size *= 2;
      if (now - since > 30 && rates.length < engines.length) {
        const tried = rates.push(best);
        if (best > 100) rates.length = 9;
        else {
          use(engines[tried] || engines[rates.indexOf(Math.max(...rates))]);
          size = 4;
        }
      }
      if (job.p) await new Promise(setTimeout);
    }
  };
};
