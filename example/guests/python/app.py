"""A key provider in Python: packets as Confidential Containers' key broker has them, for keys that encrypt inside their service."""

import base64
import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.provider import PacketInfo
from wit_world.imports.kms import Key, Usage, canonical_uri
from wit_world.imports.types import Error_InvalidInput, Error_NoMatchingKey

WRAP_TYPE = "kms"  # the ciphertext is the service's own: there is no `iv`


def wrap(uris, opts_data):
    if len(uris) != 1:
        raise Err(Error_InvalidInput("this format has one recipient"))
    with Key.open(uris[0], Usage.WRAP) as key:
        info = key.info()
        if info.wrapping != "kms":
            raise Err(Error_InvalidInput(f"{info.uri} wraps by {info.wrapping}; a key that encrypts by itself is needed"))
        data = base64.b64encode(key.encrypt(opts_data)).decode()
    return json.dumps({"kid": info.uri, "wrapped_data": data, "iv": "", "wrap_type": WRAP_TYPE}).encode()


def unwrap(uris, annotation):
    packet = read(annotation)
    if uris and packet["kid"] not in map(canonical_uri, uris):
        raise Err(Error_NoMatchingKey(f"the annotation is for {packet['kid']}"))
    with Key.open(packet["kid"], Usage.UNWRAP) as key:
        return key.decrypt(base64.b64decode(packet["wrapped_data"]))


def read(annotation):
    try:
        packet = json.loads(annotation)
        members = {name: str(packet[name]) for name in ("kid", "wrapped_data", "iv", "wrap_type")}
        base64.b64decode(members["wrapped_data"], validate=True)
    except (KeyError, TypeError, ValueError):
        raise Err(Error_InvalidInput("the annotation is no packet of the key broker's format"))
    if members["wrap_type"] != WRAP_TYPE:
        raise Err(Error_InvalidInput(f"the packet's `wrap_type` is not {WRAP_TYPE}"))
    return members


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
        kid, data, _, wrap_type = read(annotation).values()
        return [PacketInfo(kid, wrap_type, len(base64.b64decode(data)), [])]
