// How fast a model is in a page: by tipi, and by onnxruntime-web beside it. speed.py does the same natively, speed.sh all in one run.
//   node speed.mjs --package FOLDER --chromium FILE --pictures FOLDER --model FOLDER --name NAME
//       [--precision f16] [--count 64] [--shots 4] [--epochs 12] [--onnx FILE --runtime FOLDER [--threads 2]]
// FOLDERs: what bindings/web/build.sh made; pictures by class; a model. FILE is the model's image tower of models.py, --runtime the `dist`
// of onnxruntime-web, with its package.json above it. --epochs 0 leaves PiNI out; else give at least 3.
// Needs playwright-core beside it, and server.mjs of bindings/web/tests. Rows of a table come out:
//   | model | engine | load s | first answer s | first pictures s | pictures/s | PiNI step s |
// tipi's first answer is a classifier from 8 names and its word on one picture's file, and its pictures are files, too. onnxruntime-web has
// the image tower alone: its first answer is one picture's features, and it gets prepared values, so that no words are read, no file is
// decoded and nothing resized in its times.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { chromiumOf, serve } from './server.mjs';

const text = { type: 'string' };
const { values: given } = parseArgs({
    options: {
        package: text, chromium: text, pictures: text, model: text, name: text, onnx: text, runtime: text, precision: { ...text, default: 'f32' },
        count: { ...text, default: '64' }, shots: { ...text, default: '4' }, epochs: { ...text, default: '12' }, threads: { ...text, default: '2' },
    },
});
const [count, shots, epochs] = [given.count, given.shots, given.epochs].map(Number);
const classes = fs.readdirSync(given.pictures).filter(name => fs.statSync(path.join(given.pictures, name)).isDirectory()).sort().slice(0, 8);
const each = Math.max(shots, Math.ceil(count / classes.length));
const files = classes.map(name => fs.readdirSync(path.join(given.pictures, name)).sort().slice(0, each).map(file => `${name}/${file}`));
const { image_size: size } = JSON.parse(fs.readFileSync(path.join(given.model, 'config.json'))).vision_config;

const server = await serve({
    package: given.package, model: given.model, pictures: given.pictures, runtime: given.runtime ?? '', onnx: path.dirname(given.onnx ?? ''),
}, true);
const chrome = await chromium.launch(chromiumOf(given.chromium));

/** What both engines' pages have: clocks, and prepared pixels. */
function helpers() {
    globalThis.timed = async work => {
        const begun = performance.now();
        const result = await work();
        return [(performance.now() - begun) / 1000, result];
    };
    // The best of three times, or of as many as fit into a minute.
    globalThis.steady = async work => {
        let best = Infinity;
        for (let round = 0, all = 0; round < 3 && all < 60; round++) {
            const [seconds] = await timed(work);
            all += seconds;
            best = Math.min(best, seconds);
        }
        return best;
    };
    globalThis.pixels = (count, size) => Float32Array.from({ length: count * 3 * size * size }, (_, at) => Math.sin(at * at));
}

/** tipi in the page: the times, and the features of one picture's pixels. */
async function ofTipi({ classes, files, size, count, shots, epochs, precision }) {
    const all = await Promise.all(files.map(all => Promise.all(all.map(async file => (await fetch(`/pictures/${file}`)).blob()))));
    const pictures = all.flat().slice(0, count);
    const template = 'an icon of {}';
    const [load, [tipi, model]] = await timed(async () => {
        const tipi = await import('/package/tipi.js');
        return [tipi, await tipi.Model.load('/model/', { precision })];
    });
    const [answer] = await timed(async () => (await model.zeroShot(classes, template)).predict(pictures[0]));
    const [first] = await timed(() => model.encodeImages(pictures));
    const rate = count / await steady(() => model.encodeImages(pictures));
    const features = [...await model.encodePixels(pixels(1, size))], { about } = await tipi.device();
    if (!epochs) return { about, features, times: [load, answer, first, rate] };
    // When each epoch, here of one step, was first seen to be done.
    const ends = new Map();
    await model.fit('pini', Object.fromEntries(classes.map((name, at) => [name, all[at].slice(0, shots)])), {
        template, settings: { epochs }, how: { augment: false, key_views: 0, judge_by: 'validation' },
        onProgress: ({ words }) => {
            const epoch = Number(words.match(/epoch (\d+)/)?.[1]);
            if (epoch && !ends.has(epoch)) ends.set(epoch, performance.now());
        },
    });
    // Without the first half, which compiles kernels.
    const late = [...ends].slice(ends.size / 2 | 0);
    const step = (late.at(-1)[1] - late[0][1]) / 1000 / (late.at(-1)[0] - late[0][0]);
    return { about, features, times: [load, answer, first, rate, step] };
}

/** onnxruntime-web in the page, the same. */
async function ofRuntime({ file, provider, threads, size, count }) {
    const [load, [ort, session]] = await timed(async () => {
        const ort = await import(`/runtime/ort.${provider}.min.mjs`);
        ort.env.wasm.numThreads = threads;
        return [ort, await ort.InferenceSession.create(file, { executionProviders: [provider], logSeverityLevel: 3 })];
    });
    const encode = async (values, count) => {
        const { features } = await session.run({ pixels: new ort.Tensor('float32', values, [count, 3, size, size]) });
        return features.data;
    };
    const [answer, features] = await timed(() => encode(pixels(1, size), 1));
    const values = pixels(count, size);
    const [first] = await timed(() => encode(values, count));
    const rate = count / await steady(() => encode(values, count));
    return { isolated: crossOriginIsolated, features: [...features], times: [load, answer, first, rate] };
}

/** Does the work in a page of its own. */
async function inPage(work, argument) {
    const context = await chrome.newContext();
    const page = await context.newPage();
    page.on('console', message => { if (['error', 'warning'].includes(message.type())) console.error(message.text()); });
    await page.goto(server.address);
    await page.evaluate(helpers);
    const found = await page.evaluate(work, argument);
    await context.close();
    return found;
}

function row(engine, [load, answer, first, rate, step]) {
    const cells = [load, answer, first, rate, step].map(value => value?.toPrecision(3) ?? '');
    console.log(`| ${[given.name, engine, ...cells].join(' | ')} |`);
}

const tipi = await inPage(ofTipi, { classes, files, size, count, shots, epochs, precision: given.precision });
row(`tipi ${given.precision}, in Chromium on ${tipi.about}`, tipi.times);
if (given.onnx) {
    const { version } = JSON.parse(fs.readFileSync(path.join(given.runtime, '../package.json')));
    for (const [provider, threads] of [['wasm', 1], ['wasm', Number(given.threads)], ['webgpu', 1]]) {
        const found = await inPage(ofRuntime, { file: `/onnx/${path.basename(given.onnx)}`, provider, threads, size, count });
        assert.ok(found.isolated, 'threads');
        row(`onnxruntime-web ${version} f32, image tower, ${provider}${provider === 'wasm' ? `, threads: ${threads}` : ''}`, found.times);
        // The same tower by another engine has the same features.
        const [a, b] = [tipi.features, found.features];
        const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);
        const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
        assert.ok(cosine > 0.9999, `features of ${provider} have a cosine of ${cosine} with tipi's`);
    }
}
await chrome.close();
server.close();
process.exit(0);
