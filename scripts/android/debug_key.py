"""The debug key, the same on every machine: an app built in another checkout installs over this one's.

It is computed from a text that stands here, so it is no secret: anyone can sign an app with it that Android takes for a newer version
of this one. It proves nothing about who built an APK. The app holds no secrets and may not use the network; a product has a key of its own.
"""

import hashlib
from pathlib import Path

SEED = b"firsttoken demo, public debug key 1"
NAME = "firsttoken public debug key"
BITS, EXPONENT = 2048, 65537
VALID = (b"20250101000000Z", b"20650101000000Z")
RSA, SHA256_WITH_RSA, SHA256, COMMON_NAME = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.11", "2.16.840.1.101.3.4.2.1", "2.5.4.3"
SMALL = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]
INTEGER, BITSTRING, OCTETS, NULL, OBJECT, UTF8, TIME, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x18, 0x30, 0x31


def written(folder: Path) -> tuple[Path, Path]:
    """Returns the files of the key (PKCS #8) and of its certificate (X.509) in ``folder``, computed where they are not there yet."""
    key, certificate = folder / "debug-key.pk8", folder / "debug-key.x509"
    if not (key.is_file() and certificate.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        p, q = primes()
        certificate.write_bytes(self_signed(p, q))
        key.write_bytes(private_key(p, q))
    return key, certificate


def primes() -> tuple[int, int]:
    """Returns two primes of 1024 bits, the larger first, that follow from `SEED` alone."""
    p, q = (_prime(SEED + name) for name in (b" p", b" q"))
    return max(p, q), min(p, q)


def private_key(p: int, q: int) -> bytes:
    """Returns the key as RFC 8017, A.1.2, in RFC 5208's envelope."""
    d = pow(EXPONENT, -1, (p - 1) * (q - 1))
    values = (0, p * q, EXPONENT, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    return _pack(SEQUENCE, _number(0), _algorithm(RSA), _pack(OCTETS, _pack(SEQUENCE, *map(_number, values))))


def self_signed(p: int, q: int) -> bytes:
    """Returns a certificate of version 1 (RFC 5280), signed with RSASSA-PKCS1-v1_5 (RFC 8017, 8.2.1), which draws no random numbers."""
    name = _pack(SEQUENCE, _pack(SET, _pack(SEQUENCE, _object(COMMON_NAME), _pack(UTF8, NAME.encode()))))
    valid = _pack(SEQUENCE, *(_pack(TIME, time) for time in VALID))
    public = _pack(SEQUENCE, _algorithm(RSA), _pack(BITSTRING, b"\0" + _pack(SEQUENCE, _number(p * q), _number(EXPONENT))))
    signed = _pack(SEQUENCE, _number(1), _algorithm(SHA256_WITH_RSA), name, valid, name, public)
    digest = _pack(SEQUENCE, _algorithm(SHA256), _pack(OCTETS, hashlib.sha256(signed).digest()))
    size = BITS // 8
    padded = b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest
    signature = pow(int.from_bytes(padded), pow(EXPONENT, -1, (p - 1) * (q - 1)), p * q).to_bytes(size)
    return _pack(SEQUENCE, signed, _algorithm(SHA256_WITH_RSA), _pack(BITSTRING, b"\0" + signature))


def _prime(seed: bytes) -> int:
    """The first prime from a number of 1024 bits on that is the hash of ``seed``, its two highest bits set."""
    size = BITS // 16
    candidate = int.from_bytes(hashlib.shake_256(seed).digest(size)) | 3 << (size * 8 - 2) | 1
    while any(candidate % n == 0 for n in SMALL) or (candidate - 1) % EXPONENT == 0 or not _probably_prime(candidate):
        candidate += 2
    return candidate


def _probably_prime(n: int, rounds: int = 20) -> bool:
    """Miller and Rabin's test with fixed bases."""
    twos = ((n - 1) & -(n - 1)).bit_length() - 1
    odd = (n - 1) >> twos
    for base in [2, *SMALL[: rounds - 1]]:
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def _pack(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes([tag, 128 | len(length)]) + length + body


def _number(value: int) -> bytes:
    return _pack(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def _object(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    coded = bytes([first * 40 + second])
    for arc in rest:
        groups = [arc & 127]
        while arc := arc >> 7:
            groups.append(arc & 127 | 128)
        coded += bytes(reversed(groups))
    return _pack(OBJECT, coded)


def _algorithm(dotted: str) -> bytes:
    return _pack(SEQUENCE, _object(dotted), _pack(NULL))
