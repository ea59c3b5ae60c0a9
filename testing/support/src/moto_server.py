"""moto's AWS on a free port of loopback, and boto3 to talk to it, for a test that started this. Ends when its standard input does.

Each line of input is one call, {"service", "operation", "arguments"}, and each line of output its result. Bytes are {"base64": ...}.
"""

import base64
import json
import os
import sys

import boto3
import requests
from botocore.config import Config
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from moto.core.exceptions import JsonRESTError
from moto.kms.responses import KmsResponse
from moto.server import ThreadedMotoServer

OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def use_key(asked, answers):
    """What moto lacks: keys that are disabled refuse, RSA keys encrypt with RSA, and the algorithm that was used is answered."""

    def call(self):
        key_id = self._get_param("KeyId")
        self._validate_key_id(key_id)
        key = self.kms_backend.describe_key(self.kms_backend.any_id_to_key_id(key_id))
        if not key.enabled:
            raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")
        algorithm = self._get_param("EncryptionAlgorithm", "SYMMETRIC_DEFAULT")
        if algorithm not in key.encryption_algorithms:
            raise JsonRESTError("InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {key.key_spec}.")
        if algorithm == "SYMMETRIC_DEFAULT":
            return json.dumps({"EncryptionAlgorithm": algorithm, **json.loads(asked(self))})
        if self._get_param("EncryptionContext"):
            raise JsonRESTError("ValidationException", "Encryption context is not supported with asymmetric keys.")
        return json.dumps({"EncryptionAlgorithm": algorithm, "KeyId": key.arn, **answers(self, key.private_key.private_key)})

    return call


def rsa_encrypt(self, key):
    ciphertext = key.public_key().encrypt(self._get_param("Plaintext"), OAEP)
    return {"CiphertextBlob": base64.b64encode(ciphertext).decode()}


def rsa_decrypt(self, key):
    try:
        return {"Plaintext": base64.b64encode(key.decrypt(self._get_param("CiphertextBlob"), OAEP)).decode()}
    except ValueError:
        raise JsonRESTError("InvalidCiphertextException", "") from None


def decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def open_jwe(kms, KeyId, compact):
    """RFC 7516, with boto3 for the encrypted key."""
    header, encrypted_key, iv, ciphertext, tag = compact.split(".")
    assert json.loads(decode(header))["alg"] == "RSA-OAEP-256"
    cek = kms.decrypt(KeyId=KeyId, CiphertextBlob=decode(encrypted_key), EncryptionAlgorithm="RSAES_OAEP_SHA_256")["Plaintext"]
    return {"plaintext": AESGCM(cek).decrypt(decode(iv), decode(ciphertext) + decode(tag), header.encode())}


def make_jwe(kms, KeyId, plaintext, header):
    """RFC 7516 with nothing but the key's public half."""
    key = serialization.load_der_public_key(kms.get_public_key(KeyId=KeyId)["PublicKey"])
    cek, iv, header = AESGCM.generate_key(256), os.urandom(12), encode(json.dumps(header).encode())
    sealed = AESGCM(cek).encrypt(iv, plaintext, header.encode())
    return {"compact": ".".join([header, encode(key.encrypt(cek, OAEP)), encode(iv), encode(sealed[:-16]), encode(sealed[-16:])])}


def main():
    KmsResponse.encrypt = use_key(KmsResponse.encrypt, rsa_encrypt)
    KmsResponse.decrypt = use_key(KmsResponse.decrypt, rsa_decrypt)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    session = boto3.Session("root-id", "root-secret", region_name="eu-central-1")
    client = lambda service: session.client(service, endpoint_url=endpoint, config=Config(retries={"max_attempts": 0}))
    special = {"open_jwe": open_jwe, "make_jwe": make_jwe}
    to_bytes = lambda value: base64.b64decode(value["base64"]) if set(value) == {"base64"} else value
    to_text = lambda value: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else str(value)
    answer = lambda value: print(json.dumps(value, default=to_text), flush=True)
    answer({"endpoint": endpoint})
    for line in sys.stdin:
        call = json.loads(line, object_hook=to_bytes)
        try:
            if call["operation"] == "check_signatures":
                requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
                answer({})
            elif call["operation"] in special:
                answer(special[call["operation"]](client("kms"), **call["arguments"]))
            else:
                answer(getattr(client(call["service"]), call["operation"])(**call["arguments"]))
        except Exception as error:  # The test says whether it is one.
            answer({"error": f"{type(error).__name__}: {error}"})


main()
