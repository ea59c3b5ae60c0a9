"""A key provider in Python for a service that the host has no code for: a secret store with OpenBao's KV API (version 1).

A layer's key is stored as a secret of its own, below the key's name, and the packet says which. The host knows where the server is
and adds the token."""

import base64
import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.provider import PacketInfo
from wit_world.imports.kms import Usage, canonical_uri
from wit_world.imports.kms_http import Endpoint, Request
from wit_world.imports.random import get_random_bytes
from wit_world.imports.types import Error_InvalidInput, Error_NoMatchingKey


def ask(uri, usage, method, secret, body=b""):
    with Endpoint.open(uri, usage) as endpoint:
        info = endpoint.info()
        if info.context:
            raise Err(Error_InvalidInput("this provider can't bind an encryption context"))
        headers = [("content-type", "application/json")] if body else []
        return endpoint.send(Request(method, f"/v1/kv/{info.key}/{secret}", headers, body)).body


def wrap(uris, opts_data):
    if len(uris) != 1:
        raise Err(Error_InvalidInput("this format has one recipient"))
    uri, secret = canonical_uri(uris[0]), get_random_bytes(16).hex()
    ask(uri, Usage.WRAP, "POST", secret, json.dumps({"opts_data": base64.b64encode(opts_data).decode()}).encode())
    return json.dumps({"key_url": uri, "secret": secret}).encode()


def unwrap(uris, annotation):
    packet = read(annotation)
    if uris and packet["key_url"] not in map(canonical_uri, uris):
        raise Err(Error_NoMatchingKey(f"the annotation is for {packet['key_url']}"))
    answer = ask(packet["key_url"], Usage.UNWRAP, "GET", packet["secret"])
    return base64.b64decode(json.loads(answer)["data"]["opts_data"])


def read(annotation):
    try:
        packet = json.loads(annotation)
        return {name: str(packet[name]) for name in ("key_url", "secret")}
    except (KeyError, TypeError, ValueError):
        raise Err(Error_InvalidInput("the annotation is no packet of this provider's"))


class Provider(exports.Provider):
    def exchange(self, settings, message):
        message = json.loads(message)
        wraps = message["op"] == "keywrap"
        params, config, payload = ("keywrapparams", "ec", "optsdata") if wraps else ("keyunwrapparams", "dc", "annotation")
        given = message[params][config]["Parameters"].get(settings.name, [])
        uris = [base64.b64decode(value).decode() for value in given] or (settings.default_recipients if wraps else [])
        result = (wrap if wraps else unwrap)(uris, base64.b64decode(message[params][payload]))
        answer = base64.b64encode(result).decode()
        return json.dumps({"keywrapresults": {"annotation": answer}} if wraps else {"keyunwrapresults": {"optsdata": answer}}).encode()

    def inspect(self, annotation):
        packet = read(annotation)
        return [PacketInfo(packet["key_url"], "secret", len(packet["secret"]), [])]
