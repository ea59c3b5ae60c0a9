// A host in a page: lends one key of a file to the component, for one exchange.
//
//     node host.mjs COMPONENT.wasm NAME.jwks [OPTION=VALUE...] < message > answer
//
// The file is a JWK set as `ocicrypt-kms keygen NAME` makes it (symmetric keys, A256KW); its key is called `local://NAME`. Options are for
// the guest. What a host has to do is in docs/wit.md; this one has no policy beyond its one key, no encryption context, no audit, and no
// limit on time and memory: run it in a process that has them.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { transpile } from '@bytecodealliance/jco';

const PROVIDER = 'kmscrypt';
const OPERATIONS = {
  keywrap: { usage: 'wrap', params: 'keywrapparams', config: 'ec', payload: 'optsdata', results: 'keywrapresults', result: 'annotation' },
  keyunwrap: {
    usage: 'unwrap', params: 'keyunwrapparams', config: 'dc', payload: 'annotation', results: 'keyunwrapresults', result: 'optsdata',
  },
};

/** The error case of a WIT `result`. */
class Refusal extends Error {
  constructor(tag, val) {
    super(`${tag}: ${val}`);
    this.payload = { tag, val };
  }
}

/** JSON, unless a member stands twice somewhere: two readers could take different ones. */
function parse(json) {
  let members = 0;
  const value = JSON.parse(json, (_, value) => {
    if (value && typeof value === 'object' && !Array.isArray(value)) members += Object.keys(value).length;
    return value;
  });
  const names = [...json.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)].filter(([, colon]) => colon);
  if (names.length !== members) throw new SyntaxError('a member stands twice');
  return value;
}

/** AES Key Wrap (RFC 3394). */
function keyWrap(make, key, bytes) {
  const cipher = make('id-aes256-wrap', key, Buffer.alloc(8, 0xa6));
  return Buffer.concat([cipher.update(bytes), cipher.final()]);
}

/** The interface `kms`, for one exchange that may do what `usage` says. */
function kms(path, usage) {
  const uri = `local://${basename(path, '.jwks')}`;
  const versions = JSON.parse(readFileSync(path)).keys.map(({ kid, k }) => ({ kid, key: Buffer.from(k, 'base64url') }));
  let [opens, uses] = [0, 0];

  class Key {
    #spent = false;

    static open(asked, use) {
      opens += 1;
      if (asked !== uri || use !== usage || opens > 16) throw new Refusal('denied', `${asked}: this exchange may not ${use} with it`);
      return new Key();
    }

    info() {
      return { uri, service: 'local', wrapping: 'A256KW', context: [], attributes: [] };
    }

    encrypt() {
      this.#otherMethod('wrap');
    }

    decrypt() {
      this.#otherMethod('unwrap');
    }

    wrapKey(cek, enc) {
      this.#begin('wrap');
      if (cek.length !== 32 || enc !== 'A256GCM') throw new Refusal('invalid-input', 'only 32-byte keys for A256GCM are wrapped');
      const [{ kid, key }] = versions;
      this.#spent = true;
      return { encryptedKey: keyWrap(createCipheriv, key, cek), header: [['kid', JSON.stringify(kid)]] };
    }

    unwrapKey(encryptedKey, header) {
      this.#begin('unwrap');
      const { alg, enc, kid } = this.#read(header);
      if (alg !== 'A256KW' || enc !== 'A256GCM') throw new Refusal('invalid-input', "the header's `alg` or `enc` is not the key's");
      for (const version of versions.filter((version) => kid === undefined || kid === version.kid)) {
        try {
          const cek = keyWrap(createDecipheriv, version.key, encryptedKey);
          this.#spent = true;
          return cek;
        } catch {
          // Perhaps an older version wrapped it.
        }
      }
      throw new Refusal('corrupt', 'the packet does not verify with this key');
    }

    #begin(use) {
      uses += 1;
      if (use !== usage || this.#spent || uses > 16) throw new Refusal('denied', `the key was lent for one ${usage}`);
    }

    #otherMethod(use) {
      this.#begin(use);
      throw new Refusal('invalid-input', 'the key wraps by A256KW: use `wrap-key` and `unwrap-key`');
    }

    #read(header) {
      try {
        return parse(header);
      } catch {
        throw new Refusal('invalid-input', 'the header is no JSON, or a member stands twice');
      }
    }
  }

  const canonicalUri = (asked) => {
    if (asked !== uri) throw new Refusal('invalid-input', `${asked}: this host has no such key`);
    return asked;
  };
  return { Key, canonicalUri };
}

/** Makes JavaScript of the component and instantiates it with nothing but `imports`. */
async function instantiate(component, imports) {
  const options = { name: 'guest', instantiation: { tag: 'async' }, noTypescript: true };
  const { files } = await transpile(readFileSync(component), options);
  const folder = mkdtempSync(join(tmpdir(), 'guest-'));
  try {
    writeFileSync(join(folder, 'guest.mjs'), files['guest.js']);
    const guest = await import(pathToFileURL(join(folder, 'guest.mjs')));
    return await guest.instantiate((name) => WebAssembly.compile(files[name]), imports);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Whether it is the key of a layer; the host is no decryption oracle for anything else. */
function isOptsData(json) {
  try {
    const { symkey } = parse(json);
    return typeof symkey === 'string' && symkey !== '';
  } catch {
    return false;
  }
}

async function main(component, path, ...options) {
  const message = parse(await text(process.stdin));
  const { usage, params, config, payload, results, result } = OPERATIONS[message.op];
  const values = message[params][config]?.Parameters?.[PROVIDER] ?? [];
  // Anew, with nothing in it but what this provider needs: a client may send private keys along.
  const given = { op: message.op, [params]: { [config]: { Parameters: { [PROVIDER]: values } }, [payload]: message[params][payload] } };
  const { provider } = await instantiate(component, {
    'ocicrypt:keyprovider/types': {},
    'ocicrypt:keyprovider/kms': kms(path, usage),
    'wasi:random/random': {
      getRandomBytes: (length) => randomBytes(Number(length)),
      getRandomU64: () => randomBytes(8).readBigUInt64LE(),
    },
  });
  const settings = { name: PROVIDER, defaultRecipients: [], options: options.map((option) => option.split(/=(.*)/s).slice(0, 2)) };
  const answer = JSON.parse(Buffer.from(provider.exchange(settings, Buffer.from(JSON.stringify(given)))));
  const bytes = Buffer.from(answer[results][result], 'base64');
  if (usage === 'unwrap' && !isOptsData(bytes.toString())) throw new Error('what was unwrapped is not the key of a layer');
  process.stdout.write(JSON.stringify({ [results]: { [result]: [...bytes] } }));
}

main(...process.argv.slice(2)).catch((error) => {
  const { tag, val } = error.payload ?? {};
  process.stderr.write(`${tag ? `${tag}: ${JSON.stringify(val)}` : error.message}\n`);
  process.exitCode = 1;
});
