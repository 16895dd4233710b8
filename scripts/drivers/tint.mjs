// Gives variants that tests/shaders.rs wrote to Tint, the WGSL compiler of Chromium, by way of Dawn.
//   node tint.mjs FOLDER modules      parses and checks each variant, on no device, with every feature that Dawn knows
//   node tint.mjs FOLDER pipelines    makes a pipeline of one variant per entry point, on the driver that there is
// Prints what is refused, and last: passed N, refused N, left out N.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, mode, first] = process.argv.slice(2);
/// Variants that one process takes: Dawn for Node ends by itself past some 1,200 modules.
const PART = 500;
// The package lies in the folder that this is started in, not beside this file.
const require = createRequire(path.join(process.cwd(), 'package.json'));
const { create, globals } = await import(pathToFileURL(require.resolve('webgpu')));
Object.assign(globalThis, globals);
const all = JSON.parse(fs.readFileSync(path.join(folder, 'list.json'), 'utf8'));

if (mode === 'modules' && first === undefined) {
  const sums = [0, 0, 0];
  for (let at = 0; at < all.length; at += PART) {
    const part = spawnSync(process.execPath, [process.argv[1], folder, mode, String(at)], { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
    const counts = part.stdout.match(/^passed (\d+), refused (\d+), left out (\d+)\n$/m);
    // A part's own sum is not the end.
    console.log(part.stdout.replace(counts?.[0] ?? '', '').trimEnd());
    if (!counts) process.exit(part.status || 1);
    counts.slice(1).forEach((count, which) => { sums[which] += Number(count); });
  }
  console.log(`passed ${sums[0]}, refused ${sums[1]}, left out ${sums[2]}`);
  process.exit(sums[1] ? 1 : 0);
}
const list = first === undefined ? all : all.slice(Number(first), Number(first) + PART);

const gpu = create(mode === 'modules' ? ['backend=null'] : []);
const adapter = await gpu.requestAdapter();
if (!adapter) {
  console.log('Dawn finds no device');
  process.exit(77);
}
const limits = {};
for (const name in adapter.limits) limits[name] = adapter.limits[name];
const device = await adapter.requestDevice({ requiredFeatures: [...adapter.features], requiredLimits: limits });
const has = (feature) => adapter.features.has(feature);
const { description, subgroupMinSize, subgroupMaxSize } = adapter.info;
console.log(`Dawn on ${description}, subgroups of ${subgroupMinSize} to ${subgroupMaxSize}, f16: ${has('shader-f16')}`);

/// Extensions that only wgpu has; no browser is ever given a text that enables one.
const wgpuOnly = /^enable (wgpu_\w+)/m;
const code = (text) => text.replace(/\/\/.*$/gm, '');

const refused = new Map();
const leftOut = new Map();
const add = (map, why, key) => map.set(why, [...(map.get(why) ?? []), key]);
let passed = 0;
const entries = new Set();

for (const variant of list) {
  let text = fs.readFileSync(path.join(folder, `${variant.file}.wgsl`), 'utf8');
  const only = text.match(wgpuOnly);
  const subgroups = code(text).includes('subgroup');
  if (only) {
    add(leftOut, `${only[1]}, which only wgpu knows`, variant.key);
    continue;
  }
  if (mode === 'pipelines') {
    const entry = `${variant.shader}/${variant.entry}`;
    if (entries.has(entry)) continue;
    entries.add(entry);
    const missing = [[/^enable f16;/m, 'shader-f16']].find(([pattern, feature]) => pattern.test(text) && !has(feature));
    if (missing || (subgroups && !has('subgroups'))) {
      add(leftOut, `${missing?.[1] ?? 'subgroups'}, which this driver has not`, variant.key);
      continue;
    }
  }
  // WGSL wants this line, and naga does not know it yet.
  if (subgroups) text = `enable subgroups;\n${text}`;
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: text, label: variant.key });
  const { messages } = await module.getCompilationInfo();
  const scope = await device.popErrorScope();
  const errors = messages.filter((message) => message.type === 'error');
  for (const { message, lineNum } of errors) {
    add(refused, message, `${variant.key}:${lineNum}: ${text.split('\n')[lineNum - 1]?.trim()}`);
  }
  if (!errors.length && scope) add(refused, scope.message, variant.key);
  if (errors.length || scope) continue;
  if (mode === 'pipelines') {
    const begun = performance.now();
    try {
      await device.createComputePipelineAsync({ layout: layout(variant), compute: { module, entryPoint: variant.entry } });
    } catch (error) {
      add(refused, String(error.message ?? error).split('\n')[0], variant.key);
      continue;
    }
    const seconds = (performance.now() - begun) / 1000;
    if (seconds > 5) console.log(`slow: ${variant.key} took ${seconds.toFixed(1)} s`);
  }
  passed++;
}

/// What the variant binds, as src/gpu/pipeline.rs declares it.
function layout(variant) {
  const kinds = {
    Read: { buffer: { type: 'read-only-storage' } },
    Write: { buffer: { type: 'storage' } },
    ReadTexels: { texture: { sampleType: 'unfilterable-float' } },
    ReadBytes: { texture: { sampleType: 'sint' } },
    WriteTexels: { storageTexture: { access: 'write-only', format: 'rgba32float' } },
  };
  const entries = [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform' } }];
  for (const [binding, access] of variant.bindings) {
    entries.push({ binding, visibility: GPUShaderStage.COMPUTE, ...kinds[access] });
  }
  return device.createPipelineLayout({ bindGroupLayouts: [device.createBindGroupLayout({ entries })] });
}

const count = (map) => [...map.values()].reduce((sum, keys) => sum + new Set(keys.map((k) => k.split(':')[0])).size, 0);
for (const [why, keys] of leftOut) console.log(`left out: ${keys.length} variants with ${why}`);
for (const [why, keys] of refused) {
  console.log(`refused: ${keys.length} times: ${why}`);
  for (const key of keys.slice(0, 3)) console.log(`    ${key}`);
}
const wrong = new Set([...refused.values()].flat().map((key) => key.split(':')[0])).size;
console.log(`passed ${passed}, refused ${wrong}, left out ${count(leftOut)}`);
// Dawn's threads would keep the process alive.
process.exit(wrong ? 1 : 0);
