// Runs the module, one request after the other. See tipi.js for the other side.

import { desk } from './tipi-turn.js';
import init from './tipi_web.js';

/** The name of the cache that fetched models are kept in. */
const CACHE = 'tipi-models';
/** The most pixels that a picture of the browser's may have; the library has the same bound for files. */
const MOST_PIXELS = 1 << 28;
/** Milliseconds between two messages of progress. */
const PAUSE = 50;

let run;
const ready = init().then(wasm => { run = WebAssembly.promising(wasm.tipi_run); }, error => {
    const why = "is it beside worker.js, and does the page's policy allow 'wasm-unsafe-eval'?";
    throw new Failure('Crashed', `tipi_web_bg.wasm cannot be loaded (${error.message}); ${why}`);
});
// Who asks is told.
ready.catch(() => {});

/** An error with a kind, as the library's have one. */
class Failure extends Error {
    constructor(kind, message) { super(message); this.kind = kind; }
}

/** The cache of models, where the browser grants one, and what it keeps under an address. */
const cache = () => caches.open(CACHE).catch(() => undefined);
const kept = async url => (await cache())?.match(url);

/** What tells one version of a file from another. */
const marks = ({ headers }) => {
    // Lengths and strong tags are not the same for HEAD where a server compresses.
    const named = [headers.get('etag')?.replace(/^W\//, ''), headers.get('last-modified')];
    return JSON.stringify(named.some(Boolean) ? named : headers.get('content-length'));
};
/** Where marks are kept. */
const MARKS = 'tipi-marks';

/** What is kept, unless the server has another by now, or none any more. Without a network it counts. */
async function current(url) {
    const known = await kept(url);
    if (!known) return undefined;
    const now = await fetch(url, { method: 'HEAD', cache: 'no-cache', signal: AbortSignal.timeout(5000) }).catch(() => undefined);
    const gone = [404, 410].includes(now?.status), other = now?.ok && marks(now) !== known.headers.get(MARKS);
    return gone || other ? undefined : known;
}

/** Ends the download that is under way. */
let halt = () => {};

/** Fails where the page does not want it any more. */
function heed() {
    if (desk.stopped) throw new Failure('Stopped', 'it was stopped');
}

/** A file from the network or from the cache, as a blob, which need not lie in memory; nothing where it `may` be missing and is. */
async function fetched(url, report, may = false) {
    heed();
    const known = await current(url);
    heed();
    if (known) return known.blob();
    const stop = new AbortController();
    halt = () => stop.abort();
    const failed = error => {
        heed();
        throw new Failure('Io', `${url}: cannot be fetched (${error.message}); check the address and the connection`);
    };
    const answer = await fetch(url, { cache: 'no-cache', signal: stop.signal }).catch(failed);
    if (answer.status === 404 && may) return undefined;
    if (!answer.ok) throw new Failure('Io', `${url}: the server says ${answer.status} ${answer.statusText}`);
    const total = Number(answer.headers.get('content-length')) || 0;
    const parts = [];
    let done = 0;
    for (const reader = answer.body.getReader(); ;) {
        const part = await reader.read().catch(failed);
        if (part.done) break;
        parts.push(part.value);
        done += part.value.length;
        report({ what: `fetching ${url.split('/').pop()}`, done, total: Math.max(total, done), words: '' });
    }
    const blob = new Blob(parts);
    // A full disk keeps a model from being cached, not from being used.
    await (await cache())?.put(url, new Response(blob, { headers: { [MARKS]: marks(answer) } })).catch(error => desk.note(`${url} is not kept for the next time: ${error.message}`));
    return blob;
}

/** The names of the files that hold a model's sharded weights, of their index. */
async function shards(index, url) {
    let named;
    try {
        named = Object.values(JSON.parse(await index.text()).weight_map);
    } catch (error) {
        throw new Failure('Config', `${url}: is no index of sharded weights (${error.message})`);
    }
    // Files beside it, and nothing else that an address could lead to.
    const strange = named.find(name => !/^[\w-][\w.-]*$/.test(name));
    if (strange !== undefined) throw new Failure('Config', `${url}: '${strange}' is no name of a file`);
    return [...new Set(named)].sort();
}

/** The files of a model's folder on a server. */
async function folder(base, report) {
    const all = [], index = 'model.safetensors.index.json';
    const put = async (name, may) => {
        const blob = await fetched(new URL(name, base).href, report, may);
        if (blob) all.push({ name, blob });
        return blob;
    };
    for (const name of ['config.json', 'preprocessor_config.json', 'tokenizer.json']) await put(name);
    // A model that is kept with an index is not looked for otherwise: there may be no network.
    const sharded = await current(new URL(index, base).href);
    if (!sharded && await put('model.safetensors', true)) return all;
    const found = await put(index, true);
    if (!found) throw new Failure('Io', `${base}: the server has neither model.safetensors nor ${index} there`);
    for (const name of await shards(found, new URL(index, base).href)) await put(name);
    return all;
}

/** Files by their names as the module takes them: from addresses, blobs or bytes. */
async function files(given, report) {
    const all = [];
    for (const [name, file] of Object.entries(given)) {
        if (typeof file === 'string') all.push({ name, blob: await fetched(file, report) });
        else if (file instanceof Blob) all.push({ name, blob: file });
        else all.push({ name, bytes: bytes(file, `files['${name}']`) });
    }
    return all;
}

/** All bytes of a blob or of what a page has. */
async function whole(given, what, kind = 'Io') {
    if (!(given instanceof Blob)) return bytes(given, what);
    const read = await given.arrayBuffer().catch(error => {
        throw new Failure(kind, `${what}: cannot be read (${error.message}); choose it again`);
    });
    return new Uint8Array(read);
}

function bytes(given, what) {
    if (given instanceof Uint8Array) return given;
    if (given instanceof ArrayBuffer) return new Uint8Array(given);
    throw new Failure('Invalid', `${what}: give a Blob, an ArrayBuffer or a Uint8Array`);
}

/** A picture as the module takes it. */
async function picture(given, at) {
    const name = given?.name || `pictures[${at}]`;
    if (given instanceof ImageData) {
        return { name, rgba: new Uint8Array(given.data.buffer, given.data.byteOffset, given.data.length), width: given.width, height: given.height };
    }
    if (given instanceof ImageBitmap) {
        const { width, height } = given;
        if (width * height > MOST_PIXELS) {
            given.close();
            throw new Failure('Image', `${name}: ${width}x${height} is too large; scale it down`);
        }
        const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
        context.drawImage(given, 0, 0);
        given.close();
        return picture(context.getImageData(0, 0, width, height), at);
    }
    return { name, bytes: await whole(given, name, 'Image') };
}

/** Puts a request on the desk, and takes the answer. */
async function asked(request) {
    Object.assign(desk, { request, answer: undefined, error: undefined });
    // Whatever leaves it left the module in the middle of something.
    await run().catch(error => { throw new Failure('Crashed', error.message); });
    const { answer, error } = desk;
    Object.assign(desk, { request: undefined, answer: undefined, error: undefined });
    if (error) throw new Failure(error.kind, error.message);
    return answer;
}

async function answered({ request }, report) {
    await ready;
    const more = {}, unread = new Map();
    if (request.folder) more.files = await folder(request.folder, report);
    if (request.files) more.files = await files(request.files, report);
    if ('bytes' in request) more.bytes = await whole(request.bytes, request.name);
    if (request.pictures) {
        more.pictures = [];
        for (const [at, one] of request.pictures.entries()) {
            const labelled = request.what === 'add';
            try {
                const made = await picture(labelled ? one.picture : one, at);
                more.pictures.push(labelled ? { ...made, class: one.class } : made);
            } catch (error) {
                // Answers come for each picture by itself.
                if (request.what !== 'predict' || error.kind !== 'Image') throw error;
                unread.set(at, { error: error.message, kind: error.kind });
            }
        }
    }
    heed();
    if (!unread.size) return asked({ ...request, ...more });
    const answers = more.pictures.length ? await asked({ ...request, ...more }) : [];
    for (const [at, one] of unread) answers.splice(at, 0, one);
    return answers;
}

const waiting = [];
let working;

/** Takes the requests in their order: the module does one thing at a time. */
async function work() {
    while (waiting.length) {
        working = waiting.shift();
        const { id } = working;
        let last = -Infinity;
        const report = progress => {
            const now = performance.now();
            if (now - last < PAUSE && progress.done < progress.total) return;
            last = now;
            postMessage({ id, progress });
        };
        desk.stopped = Boolean(working.stopped);
        desk.progress = report;
        desk.note = note => postMessage({ id, note });
        try {
            heed();
            postMessage({ id, answer: await answered(working, report) });
        } catch (error) {
            postMessage({ id, error: { kind: error.kind ?? 'Error', message: error.message } });
        }
    }
    working = undefined;
}

onmessage = ({ data }) => {
    if (data.stop !== undefined) {
        if (working?.id === data.stop) { desk.stopped = true; halt(); }
        const later = waiting.find(({ id }) => id === data.stop);
        if (later) later.stopped = true;
        return;
    }
    waiting.push(data);
    if (!working) work();
};
