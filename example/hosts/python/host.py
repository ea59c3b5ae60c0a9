"""A host in a page: lends one key of a file to the component, for one exchange.

    host.py COMPONENT.wasm NAME.jwks [OPTION=VALUE...] < message > answer

The file is a JWK set as `ocicrypt-kms keygen NAME` makes it (symmetric keys, A256KW); its key is called `local://NAME`. Options are for
the guest. What a host has to do is in docs/wit.md; this one has no policy beyond its one key, no encryption context and no audit.
"""

import base64
import json
import pathlib
import sys

import cryptography.hazmat.primitives.keywrap as keywrap
import wasmtime
from wasmtime.component import Component, Linker, Record, ResourceHost, ResourceType, Variant

PACKAGE = "ocicrypt:keyprovider/{}@0.1.0"
PROVIDER = "kmscrypt"
MEMBERS = {"keywrap": ("keywrapparams", "ec", "optsdata"), "keyunwrap": ("keyunwrapparams", "dc", "annotation")}
RESULTS = {"keywrap": ("keywrapresults", "annotation"), "keyunwrap": ("keyunwrapresults", "optsdata")}
USAGES = {"keywrap": "wrap", "keyunwrap": "unwrap"}
KEY = 1  # the number of the resource type


def record(**members):
    """A WIT record, whose members are spelled with hyphens."""
    made = Record()
    made.__dict__.update({name.replace("_", "-"): value for name, value in members.items()})
    return made


def unique(members):
    """A JSON object, unless a member stands twice: two readers could take different ones."""
    if len(dict(members)) != len(members):
        raise ValueError("a member stands twice")
    return dict(members)


class Refusal(Exception):
    """The error case of a WIT `result`."""


def told(function):
    """A function of `kms`, whose refusals the guest is told."""

    def call(*arguments):
        try:
            return function(*arguments)
        except Refusal as refusal:
            return Variant(*refusal.args)

    return call


class Kms:
    """The interface `kms`, for one exchange."""

    def __init__(self, path, usage):
        self.uri, self.usage = "local://" + path.stem, usage
        self.versions = {key["kid"]: base64.urlsafe_b64decode(key["k"] + "=") for key in json.loads(path.read_text())["keys"]}
        self.opens, self.uses, self.unused = 0, 0, {}

    def canonical_uri(self, _, uri):
        if uri != self.uri:
            raise Refusal("invalid-input", f"{uri}: this host has no such key")
        return uri

    def open(self, _, uri, usage):
        self.opens += 1
        if uri != self.uri or usage != self.usage or self.opens > 16:
            raise Refusal("denied", f"{uri}: this exchange may not {usage} with it")
        self.unused[self.opens] = True
        return ResourceHost.own(self.opens, KEY)

    def info(self, store, key):
        key.to_host(store)  # a borrow that isn't taken is an error at the end of the call
        return record(uri=self.uri, service="local", wrapping="A256KW", context=[], attributes=[])

    def other_method(self, store, key, usage):
        self.begin(key.to_host(store).rep, usage)
        raise Refusal("invalid-input", "the key wraps by A256KW: use `wrap-key` and `unwrap-key`")

    def wrap_key(self, store, key, cek, enc):
        key = self.begin(key.to_host(store).rep, "wrap")
        if (len(cek), enc) != (32, "A256GCM"):
            raise Refusal("invalid-input", "only 32-byte keys for A256GCM are wrapped")
        self.unused[key] = False
        kid, secret = next(iter(self.versions.items()))
        return record(encrypted_key=keywrap.aes_key_wrap(secret, cek), header=[("kid", json.dumps(kid))])

    def unwrap_key(self, store, key, encrypted_key, header):
        key = self.begin(key.to_host(store).rep, "unwrap")
        try:
            members = dict(json.loads(header, object_pairs_hook=unique))
        except (TypeError, ValueError):
            raise Refusal("invalid-input", "the header is no JSON object, or a member stands twice")
        if (members.get("alg"), members.get("enc")) != ("A256KW", "A256GCM"):
            raise Refusal("invalid-input", "the header's `alg` or `enc` is not the key's")
        for kid, secret in self.versions.items():
            try:
                if members.get("kid", kid) == kid:
                    cek = keywrap.aes_key_unwrap(secret, encrypted_key)
                    self.unused[key] = False
                    return cek
            except (keywrap.InvalidUnwrap, ValueError):
                continue  # perhaps an older version wrapped it
        raise Refusal("corrupt", "the packet does not verify with this key")

    def begin(self, key, usage):
        self.uses += 1
        if usage != self.usage or not self.unused[key] or self.uses > 16:
            raise Refusal("denied", f"the key was lent for one {self.usage}")
        return key

    def link(self, linker):
        with linker.root() as root:
            root.add_instance(PACKAGE.format("types")).close()
            with root.add_instance(PACKAGE.format("kms")) as kms:
                kms.add_resource("key", ResourceType.host(KEY), lambda _, key: self.unused.pop(key))
                kms.add_func("canonical-uri", told(self.canonical_uri))
                kms.add_func("[static]key.open", told(self.open))
                kms.add_func("[method]key.info", self.info)
                kms.add_func("[method]key.encrypt", told(lambda store, key, _: self.other_method(store, key, "wrap")))
                kms.add_func("[method]key.decrypt", told(lambda store, key, _: self.other_method(store, key, "unwrap")))
                kms.add_func("[method]key.wrap-key", told(self.wrap_key))
                kms.add_func("[method]key.unwrap-key", told(self.unwrap_key))


def exchange(component, kms, options, message):
    """Runs the guest once, with bounded memory and time, and nothing of WASI granted (it is there for `wasi:random`)."""
    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_fuel(2_000_000_000)
    store.set_limits(memory_size=256 << 20)
    store.set_wasi(wasmtime.WasiConfig())
    linker = Linker(engine)
    linker.add_wasip2()
    kms.link(linker)
    instance = linker.instantiate(store, Component.from_file(engine, component))
    provider = instance.get_export_index(store, PACKAGE.format("provider"))
    function = instance.get_func(store, instance.get_export_index(store, "exchange", provider))
    return function(store, record(name=PROVIDER, default_recipients=[], options=options), message)


def is_opts_data(text):
    """Whether it is the key of a layer; the host is no decryption oracle for anything else."""
    try:
        members = json.loads(text, object_pairs_hook=unique)
    except ValueError:
        return False
    return isinstance(members, dict) and isinstance(members.get("symkey"), str) and members["symkey"] != ""


def main(component, path, *options):
    message = json.load(sys.stdin, object_pairs_hook=unique)
    operation = message["op"]
    params, config, payload = MEMBERS[operation]
    values = ((message[params].get(config) or {}).get("Parameters") or {}).get(PROVIDER, [])
    # Anew, with nothing in it but what this provider needs: a client may send private keys along.
    given = {"op": operation, params: {config: {"Parameters": {PROVIDER: values}}, payload: message[params][payload]}}
    kms = Kms(pathlib.Path(path), USAGES[operation])
    answer = exchange(component, kms, [tuple(option.split("=", 1)) for option in options], json.dumps(given).encode())
    if isinstance(answer, Variant):
        sys.exit(f"{answer.tag}: {answer.payload}")
    results, member = RESULTS[operation]
    result = json.loads(answer)[results][member]
    result = base64.b64decode(result) if isinstance(result, str) else bytes(result)
    if operation == "keyunwrap" and not is_opts_data(result):
        sys.exit("what was unwrapped is not the key of a layer")
    json.dump({results: {member: list(result)}}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
