"""One compact JWE with jwcrypto: `jwe.py enc HEADER SET` or `jwe.py dec SET`, on standard input and output."""

import sys

from jwcrypto import jwe, jwk


def read(path):
    with open(path, encoding="utf-8") as file:
        return jwk.JWKSet.from_json(file.read())


def encrypt(header, path):
    (key,) = read(path)
    token = jwe.JWE(sys.stdin.buffer.read(), protected=header, recipient=key)
    return token.serialize(compact=True).encode()


def decrypt(path):
    token = jwe.JWE()
    token.deserialize(sys.stdin.read(), read(path))
    return token.payload


sys.stdout.buffer.write({"enc": encrypt, "dec": decrypt}[sys.argv[1]](*sys.argv[2:]))
