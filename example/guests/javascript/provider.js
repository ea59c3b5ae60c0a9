// A key provider in JavaScript: packets as Confidential Containers' key broker has them, for keys that wrap other keys. The opts data is
// encrypted here by A256GCM with a key of one use, which the lent key wraps: `wrapped_key` and `header` say how to get at it. The tag
// covers both, and `kid` with its encryption context.
import { canonicalUri, Key } from 'ocicrypt:keyprovider/kms@0.1.0';
import { getRandomBytes } from 'wasi:random/random@0.2.6';
import { gcm } from '@noble/ciphers/aes.js';

const ENC = 'A256GCM';
const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (text) => new TextEncoder().encode(text);
const decode = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const encode = (bytes) => btoa(String.fromCharCode(...bytes));
const refuse = (tag, val) => { throw { tag, val }; }; // the error case of a WIT `result`

function wrap(uris, optsData) {
  if (uris.length !== 1) refuse('invalid-input', 'this format has one recipient');
  const key = Key.open(uris[0], 'wrap');
  const { uri, wrapping } = key.info();
  if (wrapping === 'kms') refuse('invalid-input', `${uri} encrypts by itself; a key that wraps keys is needed`);
  const [cek, iv] = [getRandomBytes(32n), getRandomBytes(12n)];
  const wrapped = key.wrapKey(cek, ENC);
  const header = `{"alg":"${wrapping}","enc":"${ENC}"${wrapped.header.map(([name, value]) => `,"${name}":${value}`).join('')}}`;
  const [wrapped_key, wrapped_data] = [wrapped.encryptedKey, gcm(cek, iv, bytes(uri + header)).encrypt(optsData)].map(encode);
  return JSON.stringify({ kid: uri, wrapped_data, iv: encode(iv), wrap_type: ENC, wrapped_key, header });
}

function unwrap(uris, annotation) {
  const packet = read(annotation);
  if (uris.length > 0 && !uris.map(canonicalUri).includes(packet.kid)) refuse('no-matching-key', `the annotation is for ${packet.kid}`);
  const cek = Key.open(packet.kid, 'unwrap').unwrapKey(decode(packet.wrapped_key), packet.header);
  try {
    return gcm(cek, decode(packet.iv), bytes(packet.kid + packet.header)).decrypt(decode(packet.wrapped_data));
  } catch {
    return refuse('corrupt', 'the packet does not verify with this key');
  }
}

function read(annotation) {
  try {
    const packet = JSON.parse(text(annotation));
    const isText = (name) => typeof packet[name] === 'string';
    if (['kid', 'wrapped_data', 'iv', 'wrapped_key', 'header'].every(isText) && packet.wrap_type === ENC) return packet;
  } catch {}
  return refuse('invalid-input', 'the annotation is no packet of this format');
}

export const provider = {
  exchange({ name, defaultRecipients }, message) {
    const { op, keywrapparams: given, keyunwrapparams: taken } = JSON.parse(text(message));
    const named = ((given?.ec ?? taken.dc).Parameters[name] ?? []).map((value) => text(decode(value)));
    if (op === 'keyunwrap') return bytes(`{"keyunwrapresults":{"optsdata":"${encode(unwrap(named, decode(taken.annotation)))}"}}`);
    const recipients = named.length > 0 ? named : defaultRecipients;
    return bytes(`{"keywrapresults":{"annotation":"${btoa(wrap(recipients, decode(given.optsdata)))}"}}`);
  },
  inspect(annotation) {
    const { kid, wrap_type, wrapped_data } = read(annotation);
    return [{ keyUri: kid, wrapType: wrap_type, wrappedLength: decode(wrapped_data).length, attributes: [] }];
  },
};
