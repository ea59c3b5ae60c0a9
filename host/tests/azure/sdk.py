"""What Azure's own libraries do with the fake: one command, JSON in, JSON out.

Every connection ends at the fake, whichever host it is for. Nothing else of the libraries is changed.
"""

import base64
import json
import os
import secrets
import sys

import urllib3.util.connection as connection
from azure.core.exceptions import HttpResponseError
from azure.identity import EnvironmentCredential
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

create_connection = connection.create_connection
connection.create_connection = lambda _, *rest, **named: create_connection(
    ("127.0.0.1", int(os.environ["FAKE_PORT"])), *rest, **named
)


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def client(key):
    return CryptographyClient(key, EnvironmentCredential())


def round_trip(given):
    algorithm, cek = KeyWrapAlgorithm(given["algorithm"]), secrets.token_bytes(32)
    wrapped = client(given["key"]).wrap_key(algorithm, cek)
    unwrapped = client(given["key"]).unwrap_key(algorithm, wrapped.encrypted_key)
    return {"same": unwrapped.key == cek}


def open_packet(packet):
    header, encrypted_key, iv, ciphertext, tag = base64.b64decode(packet["wrapped_key"]).decode().split(".")
    members = json.loads(decode(header))
    assert members["enc"] == "A256GCM", members
    cek = client(members["kid"]).unwrap_key(KeyWrapAlgorithm(members["alg"]), decode(encrypted_key)).key
    opts_data = AESGCM(cek).decrypt(decode(iv), decode(ciphertext) + decode(tag), header.encode())
    return {"opts_data": opts_data.decode()}


def make_packet(given):
    cek, iv = secrets.token_bytes(32), secrets.token_bytes(12)
    wrapped = client(given["key"]).wrap_key(KeyWrapAlgorithm(given["algorithm"]), cek)
    header = encode(json.dumps({"alg": given["algorithm"], "enc": "A256GCM", "kid": wrapped.key_id}).encode())
    sealed = AESGCM(cek).encrypt(iv, given["opts_data"].encode(), header.encode())
    parts = [header, encode(wrapped.encrypted_key), encode(iv), encode(sealed[:-16]), encode(sealed[-16:])]
    return {
        "key_url": given["uri"],
        "wrapped_key": base64.b64encode(".".join(parts).encode()).decode(),
        "wrap_type": "JWE",
    }


def refusal(given):
    try:
        client(given["key"]).wrap_key(KeyWrapAlgorithm(given["algorithm"]), secrets.token_bytes(32))
    except HttpResponseError as error:
        return {"status": error.status_code, "code": error.error.code}
    return {}


commands = {"round-trip": round_trip, "open": open_packet, "make": make_packet, "refusal": refusal}
json.dump(commands[sys.argv[1]](json.load(sys.stdin)), sys.stdout)
