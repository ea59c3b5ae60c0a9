// Makes a component of provider.js: `node build.mjs WIT_FOLDER OUT.wasm`.
import { writeFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';
import { _setPreopens } from '@bytecodealliance/preview2-shim/filesystem';
import { rolldown } from 'rolldown';

const [witPath, out] = process.argv.slice(2);
const provider = join(dirname(fileURLToPath(import.meta.url)), 'provider.js');
const folder = await mkdtemp(join(tmpdir(), 'guest-'));
try {
  // One file of the provider and what it imports from packages; what it imports from its world stays.
  const bundle = await rolldown({ input: provider, external: /^(ocicrypt|wasi):/ });
  const sourcePath = join(folder, 'guest.js');
  await bundle.write({ format: 'esm', file: sourcePath });
  // componentize-js reads files through this shim, which from 0.26 on grants none by itself.
  _setPreopens({ '/': '/' });
  const disableFeatures = ['clocks', 'fetch-event', 'http', 'random', 'stdio'];
  const { component } = await componentize({ sourcePath, witPath, worldName: 'key-provider', disableFeatures });
  await writeFile(out, component);
} finally {
  await rm(folder, { recursive: true });
}
