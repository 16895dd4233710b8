// The package in a real browser: numbers are those of the program, and what goes wrong is an error that helps.
//   node package.mjs REPOSITORY PACKAGE TIPI CHROMIUM [PART OF A STEP'S NAME]
// PACKAGE is what build.sh made, TIPI the program; needs playwright-core beside it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import { chromium } from 'playwright-core';
import { chromiumOf, serve } from './server.mjs';
import { floats, shard } from './tensors.mjs';

const [repository, built, tipi, browser, only] = process.argv.slice(2);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tipi-web-'));
const pictures = path.join(repository, 'examples/pictos/shifted');
const golden = path.join(repository, 'tests/golden');
const CLASSES = ['apple', 'bell', 'car', 'umbrella'];
/** How far a probability may be from the program's, on another driver: the golden cases' bound, of f32 through some blocks. */
const NEAR = 2e-5;

/** The pictures of each class, in the order of their names: three to learn from, the others to be tested with. */
const all = Object.fromEntries(CLASSES.map(name => [name, fs.readdirSync(path.join(pictures, name)).sort().map(file => `${name}/${file}`)]));
const learned = Object.fromEntries(CLASSES.map(name => [name, all[name].slice(0, 3)]));
const tested = CLASSES.flatMap(name => all[name].slice(3, 9));

/** What the program says of the tested pictures: class and probability. */
function natively(...options) {
    const run = [...options, '--json', ...tested.map(file => path.join(pictures, file))];
    const text = execFileSync(tipi, run, { cwd: repository, env: { ...process.env, TIPI_TUNE: 'off' }, stdio: ['ignore', 'pipe', 'pipe'] });
    return JSON.parse(text).map(({ likeliest, class: of, probability }) => ({ class: likeliest ?? of, probability }));
}

/** Whether two rows of answers say the same. */
function same(page, program) {
    assert.equal(page.length, program.length);
    for (const [at, one] of page.entries()) {
        assert.equal(one.class, program[at].class, tested[at]);
        assert.ok(Math.abs(one.probability - program[at].probability) < NEAR, `${tested[at]}: ${one.probability}, natively ${program[at].probability}`);
    }
}

/** A PNG of so many pixels, white and of one bit each: a small file for a large picture. */
function large(width, height) {
    const chunk = (type, data) => {
        const body = Buffer.concat([Buffer.from(type), data]);
        const ends = Buffer.alloc(8);
        ends.writeUInt32BE(data.length);
        ends.writeUInt32BE(zlib.crc32(body), 4);
        return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
    };
    const head = Buffer.alloc(13);
    head.writeUInt32BE(width);
    head.writeUInt32BE(height, 4);
    head[8] = 1;
    const row = Buffer.alloc(1 + Math.ceil(width / 8), 0xff);
    row[0] = 0;
    const rows = Buffer.concat(Array(height).fill(row));
    const start = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    return Buffer.concat([start, chunk('IHDR', head), chunk('IDAT', zlib.deflateSync(rows, { level: 1 })), chunk('IEND', Buffer.alloc(0))]);
}

const right = answers => answers.filter((one, at) => tested[at].startsWith(`${one.class}/`)).length;

const server = await serve({ package: built, model: path.join(repository, 'weights/picto'), pictures, golden, made: folder });
const OPTIONS = chromiumOf(browser);
let chrome = await chromium.launch(OPTIONS);
const said = [];
const asked = new Set();

/** A page with tipi in it, and helpers. */
async function opened(context) {
    const page = await context.newPage();
    page.on('console', message => { if (['error', 'warning'].includes(message.type())) said.push(message.text()); });
    page.on('pageerror', error => said.push(error.message));
    context.on('request', request => asked.add(new URL(request.url()).origin));
    await page.goto(server.address);
    await page.evaluate(async () => {
        globalThis.tipi = await import('/package/tipi.js');
        globalThis.picture = async file => {
            const blob = await (await fetch(`/pictures/${file}`)).blob();
            return new File([blob], file, { type: blob.type });
        };
        globalThis.pictures = files => Promise.all(files.map(picture));
        globalThis.byClass = async files => Object.fromEntries(await Promise.all(Object.entries(files).map(async ([name, of]) => [name, await pictures(of)])));
        globalThis.answers = async (classifier, files) =>
            (await classifier.predict(await pictures(files))).map(({ top }) => ({ class: top[0].name, probability: top[0].probability }));
        // The kind and message of what a call fails with.
        globalThis.failure = call => call().then(() => 'it did not fail', ({ kind, message }) => `${kind}: ${message}`);
    });
    return page;
}

const steps = {
    async 'a model is fetched, and words alone classify as natively'(page) {
        const { about, width, seen, found } = await page.evaluate(async ({ tested, classes }) => {
            const seen = [];
            globalThis.model = await tipi.Model.load('/model/', { onProgress: progress => seen.push(progress) });
            globalThis.words = await model.zeroShot(classes, 'an icon of {}');
            return { about: (await tipi.device()).about, width: model.width, seen, found: await answers(words, tested) };
        }, { tested, classes: CLASSES });
        console.log(`    ${about}, ${width} values`);
        assert.ok(seen.some(({ what, done, total }) => what === 'fetching model.safetensors' && done === total && total > 1e6));
        same(found, natively('classify', '--model', 'weights/picto', '--labels', CLASSES.join(), '--template', 'an icon of {}'));
        console.log(`    ${right(found)} of ${tested.length} right`);
    },

    async 'examples teach a cache, whose adapter the program reads'(page) {
        const { found, adapter } = await page.evaluate(async ({ learned, tested }) => {
            globalThis.examples = await tipi.Examples.of(await byClass(learned));
            const { classifier } = await model.fit('tip-adapter', examples, { template: 'an icon of {}', how: { key_views: 0 } });
            globalThis.cache = classifier;
            return { found: await answers(classifier, tested), adapter: [...await classifier.saveAdapter()] };
        }, { learned, tested });
        const file = path.join(folder, 'page.safetensors');
        fs.writeFileSync(file, Uint8Array.from(adapter));
        same(found, natively('predict', '--model', 'weights/picto', '--adapter', file));
        console.log(`    ${right(found)} of ${tested.length} right`);
    },

    async 'an adapter of the program gives its answers in the page'(page) {
        const data = path.join(folder, 'data');
        for (const [name, files] of Object.entries(learned)) {
            fs.mkdirSync(path.join(data, name), { recursive: true });
            for (const file of files) fs.copyFileSync(path.join(pictures, file), path.join(data, file));
        }
        const file = path.join(folder, 'native.safetensors');
        const fit = ['fit', 'tip', '--model', 'weights/picto', '--data', data, '--shots', 'all', '--template', 'an icon of {}', '--key-views', '0', '--out', file];
        execFileSync(tipi, fit, { cwd: repository, env: { ...process.env, TIPI_TUNE: 'off' }, stdio: ['ignore', 'pipe', 'pipe'] });
        const found = await page.evaluate(async ({ tested }) => {
            const adapter = await (await fetch('/made/native.safetensors')).blob();
            return answers(await model.loadAdapter(adapter), tested);
        }, { tested });
        same(found, natively('predict', '--model', 'weights/picto', '--adapter', file));
    },

    async 'PiNI trains, says how far it is, and stops'(page) {
        const { losses, seen, stopped, after, found } = await page.evaluate(async ({ tested }) => {
            const seen = [];
            const options = { template: 'an icon of {}', settings: { epochs: 3 }, how: { augment: false } };
            const { classifier, losses } = await model.fit('pini', examples, { ...options, onProgress: progress => seen.push(progress) });
            const stop = new AbortController();
            const long = { ...options, settings: { epochs: 1000 }, signal: stop.signal };
            const begun = performance.now();
            const stopped = failure(() => model.fit('pini', examples, {
                ...long, onProgress: ({ done }) => { if (done > 1) { stop.abort(); globalThis.aborted ??= performance.now(); } },
            }));
            await stopped;
            const after = performance.now() - (globalThis.aborted ?? begun);
            return { losses: [...losses], seen, stopped: await stopped, after, found: await answers(classifier, tested) };
        }, { tested });
        assert.equal(losses.length, 3);
        assert.ok(losses.every(Number.isFinite) && seen.length > 1, JSON.stringify({ losses, seen }));
        assert.ok(stopped.startsWith('Stopped: '), stopped);
        console.log(`    losses ${losses.map(loss => loss.toFixed(3)).join(', ')}; stopped after ${after.toFixed(0)} ms; ${right(found)} of ${tested.length} right`);
    },

    // Both towers of the small models that all tests know, against f64, by the manifest's bound.
    async 'golden cases hold in the page'(page) {
        const { cases } = JSON.parse(fs.readFileSync(path.join(golden, 'manifest.json')));
        const towers = cases.filter(({ kind }) => kind === 'clip_forward');
        assert.ok(towers.length >= 3);
        for (const { name, model, file, params: { texts }, tensors } of towers) {
            const wanted = floats(path.join(golden, file));
            const files = Object.fromEntries(fs.readdirSync(path.join(golden, model)).map(one => [one, `${server.address}/golden/${model}/${one}`]));
            const given = { files, texts, pixels: [...wanted['in.pixel_values']] };
            const found = await page.evaluate(async ({ files, texts, pixels }) => {
                const of = async precision => {
                    const model = await tipi.Model.load(files, { precision });
                    const features = [await model.encodePixels(Float32Array.from(pixels)), await model.encodeTexts(texts)];
                    model.free();
                    return features.map(one => [...one]);
                };
                return { exact: await of('f32'), coarse: await of('int8') };
            }, given);
            for (const [at, tensor] of ['out.image_features', 'out.text_features'].entries()) {
                const { f32_err, max_abs } = tensors[tensor];
                const bound = 10 * f32_err + 2e-6 * max_abs;
                const share = of => Math.max(...wanted[tensor].map((value, at) => Math.abs(of[at] - value))) / bound;
                assert.equal(found.exact[at].length, wanted[tensor].length);
                const [exact, coarse] = [share(found.exact[at]), share(found.coarse[at])];
                assert.ok(exact <= 1, `${name}, ${tensor}: ${exact} times its bound`);
                // The comparison sees an error: weights of 8 bits.
                assert.ok(coarse > 100, `${name}, ${tensor}: ${coarse} of its bound with int8`);
                console.log(`    ${name}, ${tensor}: ${exact.toFixed(3)} of its bound`);
            }
        }
    },

    async 'weights may come in shards'(page) {
        const wanted = { whole: path.join(repository, 'weights/picto'), sharded: path.join(folder, 'sharded') };
        shard(wanted.whole, wanted.sharded, 3);
        fs.cpSync(wanted.sharded, path.join(folder, 'astray'), { recursive: true });
        const index = JSON.stringify({ weight_map: { 'logit_scale': '../model/model.safetensors' } });
        fs.writeFileSync(path.join(folder, 'astray', 'model.safetensors.index.json'), index);
        const { same, again, astray } = await page.evaluate(async file => {
            const good = await picture(file);
            const features = async at => {
                const model = await tipi.Model.load(at);
                const features = await model.encodeImages(good);
                model.free();
                return String(features);
            };
            const sharded = await features('/made/sharded/');
            return {
                same: sharded === await features('/model/'), again: sharded === await features('/made/sharded/'),
                astray: await failure(() => tipi.Model.load('/made/astray/')),
            };
        }, tested[0]);
        assert.ok(same, 'the same bits from shards');
        assert.ok(again, 'and from the cache');
        assert.match(astray, /^Config: .*index\.json.*'\.\.\/model/);
    },

    async 'a model that changed on the server is fetched anew'(page) {
        const at = path.join(folder, 'changing'), config = path.join(at, 'config.json');
        fs.cpSync(path.join(repository, 'weights/picto'), at, { recursive: true });
        const load = () => page.evaluate(() => failure(async () => { (await tipi.Model.load('/made/changing/')).free(); }));
        assert.equal(await load(), 'it did not fail');
        const before = fs.readFileSync(config);
        fs.writeFileSync(config, '{}');
        assert.match(await load(), /^Config: /);
        fs.writeFileSync(config, before);
        assert.equal(await load(), 'it did not fail');
        fs.rmSync(at, { recursive: true });
        assert.match(await load(), /^Io: .*404/, 'nor is what the server has no more');
    },

    async 'addresses are those of the page'(page) {
        const found = await page.evaluate(() => failure(async () => {
            const names = ['config.json', 'preprocessor_config.json', 'tokenizer.json', 'model.safetensors'];
            (await tipi.Model.load(Object.fromEntries(names.map(name => [name, `model/${name}`])))).free();
        }));
        assert.equal(found, 'it did not fail');
    },

    async 'a download that hangs is stopped, and a module that did not come is fetched again'() {
        const context = await chrome.newContext(), before = said.length;
        await context.route('**/made/hanging/**', () => {});
        let refuse = true;
        await context.route('**/*.wasm', route => (refuse ? route.abort() : route.continue()));
        const other = await opened(context);
        const first = await other.evaluate(() => failure(() => tipi.methods()));
        assert.match(first, /^Crashed: .*tipi_web_bg\.wasm cannot be loaded/);
        refuse = false;
        const [stopped, ...counts] = await other.evaluate(async () => {
            const count = (await tipi.methods()).length, stop = new AbortController();
            setTimeout(() => stop.abort(), 500);
            const stopped = await failure(() => tipi.Model.load('/made/hanging/', { signal: stop.signal }));
            return [stopped, count, (await tipi.methods()).length];
        });
        await context.close();
        // The browser complains of what did not come.
        said.length = before;
        assert.match(stopped, /^Stopped: /);
        assert.ok(counts.every(count => count > 5));
    },

    async 'pixels are pictures, too'(page) {
        const [file, data, bitmap] = await page.evaluate(async file => {
            const blob = await picture(file);
            const image = await createImageBitmap(blob);
            const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
            context.drawImage(image, 0, 0);
            const data = context.getImageData(0, 0, image.width, image.height);
            const features = await Promise.all([blob, data, image].map(one => model.encodeImages(one)));
            return features.map(one => [...one]);
        }, tested[0]);
        assert.deepEqual(data, bitmap);
        assert.ok(file.every((value, at) => Math.abs(value - data[at]) < 1e-3), 'a file and its pixels');
    },

    async 'encoding stops when it is asked to'(page) {
        const [images, pixels] = await page.evaluate(async file => {
            const good = await picture(file);
            const stopped = async work => {
                const stop = new AbortController();
                let told = 0;
                const error = await failure(() => work({ signal: stop.signal, onProgress: ({ done, total }) => { told = total; if (done < total) stop.abort(); } }));
                return { error, told };
            };
            const values = new Float32Array(256 * 3 * 64 * 64);
            return [
                await stopped(watch => model.encodeImages(Array(256).fill(good), watch)),
                await stopped(watch => model.encodePixels(values, watch)),
            ];
        }, tested[0]);
        for (const { error, told } of [images, pixels]) assert.ok(error.startsWith('Stopped: ') && told === 256, `${error}, of ${told}`);
    },

    // A browser may freeze a tab that nobody looks at.
    async 'a tab that was frozen goes on where it was'(page) {
        const session = await page.context().newCDPSession(page);
        await page.evaluate(async ({ learned }) => {
            globalThis.job = model.fit('pini', await byClass(learned), { template: 'an icon of {}', settings: { epochs: 3 }, how: { augment: false, key_views: 0 } });
        }, { learned });
        await session.send('Page.setWebLifecycleState', { state: 'frozen' });
        await new Promise(resolve => setTimeout(resolve, 2000));
        await session.send('Page.setWebLifecycleState', { state: 'active' });
        const losses = await page.evaluate(async () => [...(await job).losses]);
        assert.ok(losses.length === 3 && losses.every(Number.isFinite), `${losses}`);
    },

    // Each worker numbers what it holds anew.
    async 'what was lost with a worker is not mistaken for what the next one holds'() {
        const context = await chrome.newContext();
        const other = await opened(context);
        const [lost, width] = await other.evaluate(async () => {
            const old = await tipi.Model.load('/model/');
            tipi.close();
            const next = await tipi.Model.load('/model/');
            const lost = await failure(async () => old.encodeTexts(['a']));
            old.free();
            return [lost, (await next.encodeTexts(['a'])).length];
        });
        await context.close();
        assert.match(lost, /^Crashed: this Model was lost/);
        assert.ok(width > 0);
    },

    async 'bad input is an error that says what is wrong'(page) {
        const errors = await page.evaluate(async file => {
            const good = await picture(file);
            const text = new File(['nothing to see'], 'notes.txt');
            const cut = new File([(await good.arrayBuffer()).slice(0, 200)], 'cut.png');
            const [bad, half, fine] = await words.predict([text, cut, good]);
            const config = JSON.stringify({ model_type: 'bert' });
            const weights = await (await fetch('/model/model.safetensors')).blob();
            return {
                text: bad.error, cut: half.error, fine: fine.class,
                notThere: await failure(() => tipi.Model.load('/nowhere/')),
                noWeights: await failure(() => tipi.Model.load({ 'config.json': new Blob(['{}']) })),
                otherFamily: await failure(() => tipi.Model.load({ 'config.json': new Blob([config]), 'model.safetensors': weights })),
                cutWeights: await failure(async () => tipi.Model.load({ 'model.safetensors': weights.slice(0, 100000) })),
                method: await failure(() => model.fit('magic', examples)),
                setting: await failure(() => model.fit('pini', examples, { settings: { epochs: 0 } })),
                oneClass: await failure(async () => model.fit('tip-adapter', { bell: [good] })),
                notPicture: await failure(() => words.predict([42])),
                adapter: await failure(() => model.loadAdapter(new Blob(['x']))),
                freed: await failure(async () => { const other = await model.zeroShot(['a', 'b']); other.free(); return other.predict([good]); }),
                stillGood: (await words.predict([good]))[0].class,
            };
        }, tested[0]);
        console.log(`    ${Object.entries(errors).map(([name, error]) => `${name}: ${error}`).join('\n    ')}`);
        const expected = {
            text: /notes\.txt.*not a/s, cut: /cut\.png/, fine: /^apple$/, notThere: /^Io: .*nowhere.*404/, noWeights: /^Config: .*config\.json/,
            otherFamily: /^Config: .*config\.json/, cutWeights: /^(Safetensors|Config): /, method: /^Invalid: .*magic/, setting: /^Invalid: .*epochs/,
            oneClass: /^Invalid: .*class/, notPicture: /^Invalid: .*give a Blob/, adapter: /^AdapterFile: |^Safetensors: /, freed: /^Invalid: .*freed/, stillGood: /^apple$/,
        };
        for (const [name, pattern] of Object.entries(expected)) assert.match(errors[name], pattern, name);
    },

    async 'a picture of a hundred megapixels is answered, and one of a thousand refused'(page) {
        fs.writeFileSync(path.join(folder, '100.png'), large(10_000, 10_000));
        fs.writeFileSync(path.join(folder, '1000.png'), large(40_000, 25_000));
        const [hundred, thousand, good] = await page.evaluate(async file => {
            const given = await Promise.all(['100.png', '1000.png'].map(async name => new File([await (await fetch(`/made/${name}`)).blob()], name)));
            return words.predict([...given, await picture(file)]);
        }, tested[0]);
        assert.ok(hundred.top.length === CLASSES.length && good.class === 'apple', JSON.stringify([hundred, good]));
        assert.match(thousand.error, /1000\.png.*(large|memory)/);
        console.log(`    ${thousand.error}`);
    },

    async 'a full disk keeps the model from being kept, not from being used'(page) {
        const context = await chrome.newContext();
        const other = await opened(context);
        const session = await context.newCDPSession(other);
        await session.send('Storage.overrideQuotaForOrigin', { origin: server.address, quotaSize: 100_000 });
        const { notes, found } = await other.evaluate(async file => {
            const notes = [];
            const model = await tipi.Model.load('/model/', { onNote: note => notes.push(note) });
            const [found] = await (await model.zeroShot(['apple', 'bell'], 'an icon of {}')).predict([await picture(file)]);
            return { notes, found: found.class };
        }, tested[0]);
        await context.close();
        assert.equal(found, 'apple');
        assert.ok(notes.some(note => /model\.safetensors is not kept/.test(note)), JSON.stringify(notes));
    },

    async 'what is given back is free'(page) {
        const [before, after] = await page.evaluate(async () => {
            const sizes = [];
            for (let round = 0; round < 6; round++) {
                const other = await tipi.Model.load('/model/');
                await other.encodeTexts(['a', 'b']);
                other.free();
                sizes.push((await tipi.device()).allocatedBytes);
            }
            return [sizes[1], sizes.at(-1)];
        });
        assert.ok(after <= before, `${before} bytes, then ${after}`);
    },

    // The browser's process for the GPU ends, and with it everything that was on it.
    async 'a lost device is told, and loading again helps'() {
        const own = await chromium.launchServer(OPTIONS);
        const other = await chromium.connect(own.wsEndpoint());
        const page = await opened(await other.newContext());
        const words = `tipi.Model.load('/model/').then(model => model.zeroShot(['apple', 'bell'], 'an icon of {}'))`;
        await page.evaluate(words => eval(words).then(made => { globalThis.words = made; }), words);
        const all = execFileSync('ps', ['-eo', 'pid=,ppid=,args=']).toString().split('\n').map(line => line.trim().match(/^(\d+) +(\d+) (.*)/)).filter(Boolean);
        const parents = new Map(all.map(([, pid, parent]) => [Number(pid), Number(parent)]));
        const ours = pid => pid > 1 && (pid === own.process().pid || ours(parents.get(pid)));
        const [, gpu] = all.find(([, pid, , args]) => args.includes('--type=gpu-process') && ours(Number(pid)));
        process.kill(Number(gpu), 'SIGKILL');
        const [lost, again] = await page.evaluate(async ({ file, words }) => {
            const lost = await failure(async () => globalThis.words.predict([await picture(file)]));
            const [again] = await (await eval(words)).predict([await picture(file)]);
            return [lost, again.class];
        }, { file: tested[0], words });
        await other.close();
        await own.close();
        console.log(`    ${lost}`);
        assert.match(lost, /^DeviceLost: /);
        assert.equal(again, 'apple');
    },
};

let failed = 0;
const context = await chrome.newContext();
const page = await opened(context);
for (const [name, step] of Object.entries(steps).filter(([name]) => !only || name.includes(only))) {
    const begun = performance.now();
    try {
        await step(page);
        console.log(`ok: ${name} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
    } catch (error) {
        failed++;
        console.log(`FAILED: ${name}: ${error.stack}`);
    }
}
// The model is in the browser's cache by now: a reload needs no network for it.
const fetched = await page.evaluate(async () => (await (await caches.open('tipi-models')).keys()).map(({ url }) => new URL(url).pathname));
if (!only && !fetched.includes('/model/model.safetensors')) { failed++; console.log(`FAILED: the model is not kept: ${fetched}`); }
await chrome.close();

// A browser without WebGPU says what to do, and nothing else happens.
chrome = await chromium.launch({ executablePath: browser, headless: true, args: ['--no-sandbox', '--disable-features=WebGPU', '--disable-gpu'] });
const plain = await opened(await chrome.newContext());
const [lack, refused] = await plain.evaluate(async () => {
    Object.defineProperty(navigator, 'gpu', { value: undefined });
    return [tipi.missing(), await failure(() => tipi.Model.load('/model/'))];
});
if (!/no WebGPU/.test(lack) || refused !== `NoDevice: ${lack}`) { failed++; console.log(`FAILED: without WebGPU: ${lack}; ${refused}`); }
await chrome.close();

const others = [...asked].filter(origin => origin !== server.address && origin !== 'null');
if (others.length) { failed++; console.log(`FAILED: requests to ${others}`); }
// The browser itself complains of what is asked for on purpose and is not there.
const complaints = said.filter(text => !/404/.test(text));
if (complaints.length) { failed++; console.log(`FAILED: the console says\n${complaints.join('\n')}`); }
const missed = server.missed.filter(at => !/^\/(nowhere|made\/changing)\//.test(at) && !/^\/made\/.*\/model\.safetensors$/.test(at));
if (missed.length) { failed++; console.log(`FAILED: not served: ${missed}`); }
server.close();
fs.rmSync(folder, { recursive: true });
console.log(failed ? `${failed} failed` : 'all passed');
process.exit(failed ? 1 : 0);
