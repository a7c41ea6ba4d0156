"""Writes clearance.txt: challenges and tokens as the format says, by another hand than the server's.

    python3 tests/data/clearance.py > tests/data/clearance.txt
"""

import base64
import hashlib
import hmac
import ipaddress
import struct

NOW = 1_764_000_000
SECRETS = {
    7: b"the first secret of these tests!",
    3: b"another one, a good deal longer than it would have to be",
}
DURATION, TTL = 3600, 300
ID = b"twelve bytes"
PURPOSES = ("clearance", "challenge", "nojs")


def text(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hkdf(secret, purpose, length):
    extracted = hmac.digest(bytes(32), secret, "sha256")
    info, out, block = b"ringspoa challenge 1 " + purpose.encode(), b"", b""
    while len(out) < length:
        block = hmac.digest(extracted, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def siphash(key, data):
    """SipHash-2-4 by its paper, with the result's bytes in big-endian order."""
    mask = (1 << 64) - 1
    k = struct.unpack("<2Q", key)
    v = [
        k[0] ^ 0x736F6D6570736575,
        k[1] ^ 0x646F72616E646F6D,
        k[0] ^ 0x6C7967656E657261,
        k[1] ^ 0x7465646279746573,
    ]

    def turn(value, bits):
        return (value << bits | value >> (64 - bits)) & mask

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & mask
            v[1] = turn(v[1], 13) ^ v[0]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = turn(v[1], 17) ^ v[2]
            v[2] = turn(v[2], 32)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return struct.pack(">Q", v[0] ^ v[1] ^ v[2] ^ v[3])


def definition(method, wait, work=0, parts=0, iterations=0, provider=b"", site_key=b""):
    raw = struct.pack(">BBIIIBI", 1, method, DURATION, wait, work, parts, iterations)
    for part in (provider, site_key):
        raw += struct.pack(">H", len(part)) + part
    return raw


LEVELS = {
    1: definition(0, 5),
    2: definition(1, 0, 64, 4),
    3: definition(2, 0, 4, 2, 3),
    4: definition(3, 0, provider=b"turnstile", site_key=b"1x00000000000000000000AA"),
}


def sign(key, purpose, realm, level, thing, scope):
    realm_and_level = hashlib.sha256(struct.pack(">H", len(realm)) + realm + LEVELS[level]).digest()
    message = realm_and_level + purpose.encode().ljust(32, b"\0") + thing
    message += struct.pack(">H", len(scope)) + scope
    return hmac.digest(hkdf(SECRETS[key], purpose, 32), message, "sha256")[:16]


def tags(key, address, prefixes, agent, tls):
    keys, flags, raw = hkdf(SECRETS[key], "tags", 48), 0, b""
    tag = bytes(6)
    if address:
        address = ipaddress.ip_address(address)
        address = getattr(address, "ipv4_mapped", None) or address
        flags |= address.version == 6
        prefix = prefixes[address.version == 6]
        if prefix:
            network = ipaddress.ip_network((address, prefix), strict=False)
            tag = siphash(keys[:16], bytes([prefix]) + network.network_address.packed)[:6]
            flags |= 2
    raw += tag
    for bit, value, part in ((4, agent, keys[16:32]), (8, tls, keys[32:])):
        if value is not None:
            flags |= bit
        raw += siphash(part, value)[:3] if value is not None else bytes(3)
    return flags, raw


def solve(raw, algorithm, work, parts, iterations):
    label = {1: b"pow1", 2: b"pbk1"}[algorithm]
    seed, target, nonces = hashlib.sha256(label + raw).digest(), (1 << 64) // max(1, work // parts), []
    for part in range(parts):
        nonce = 0
        while True:
            salt = struct.pack(">IQ", part, nonce)
            if algorithm == 1:
                digest = hashlib.sha256(seed + salt).digest()
            else:
                digest = hashlib.pbkdf2_hmac("sha256", seed, salt, iterations)
            if int.from_bytes(digest[:8], "big") < target:
                break
            nonce += 1
        nonces.append(f"{nonce:x}")
    return ",".join(nonces)


def support_id(raw):
    alphabet, bits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ", int.from_bytes(raw[:8], "big") >> 4
    letters = "".join(alphabet[bits >> 5 * place & 31] for place in range(11, -1, -1))
    return "-".join(letters[at : at + 4] for at in (0, 4, 8))


def case(name, key, realm, level, terms, scope, shared, bound):
    algorithm, kind, wait, work, parts, iterations = terms
    flags, raw_tags = tags(key, *bound)
    flags |= kind << 4 | shared << 7
    not_before = NOW + wait
    signed = struct.pack(">5B", 1, key, algorithm, level, flags)
    signed += struct.pack(">IIIIBI", NOW, not_before + TTL, not_before, work, parts, iterations)
    signed += ID + raw_tags
    raw = signed + sign(key, "challenge", realm, level, signed, scope)
    token = struct.pack(">4B", 1, key, flags, level) + struct.pack(">II", NOW, NOW + DURATION)
    token += ID[:8] + raw_tags
    token += sign(key, "clearance", realm, level, token, scope)
    print(f"[{name}]")
    print(f"challenge {text(raw)}")
    if parts:
        print(f"solution {solve(raw, algorithm, work, parts, iterations)}")
    print(f"token {text(token)}")
    print(f"return {text(sign(key, 'nojs', realm, level, raw, b'/a/path?q=1'))}")
    print(f"support-id {support_id(ID)}\n")


AGENT, TLS = b"Mozilla/5.0", b"t13d1516h2"
case("sha256", 7, b"default", 2, (1, 1, 0, 64, 4, 0), b"shop.test", 0,
     ("203.0.113.7", (32, 64), AGENT, None))
case("pbkdf2", 3, b"another realm", 3, (2, 5, 0, 4, 2, 3), b"shop.test", 0,
     ("::ffff:203.0.113.7", (24, None), None, TLS))
case("wait", 7, b"default", 1, (0, 0, 5, 0, 0, 0), b"example.com", 1,
     ("2001:db8:1:2ff::1", (32, 56), AGENT, TLS))
case("nojs", 7, b"default", 2, (0, 3, 9, 0, 0, 0), b"2001:db8::1", 0,
     ("2001:db8::1", (32, None), b"", b""))
case("captcha", 3, b"", 4, (3, 2, 0, 0, 0, 0), b"", 0,
     (None, (32, 64), None, None))

print("[pseudonyms]")
for key in SECRETS:
    for address in ("203.0.113.7", "2001:db8::1"):
        packed = ipaddress.ip_address(address).packed
        print(f"{key} {address} {siphash(hkdf(SECRETS[key], 'log', 16), packed).hex()}")
