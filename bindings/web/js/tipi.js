// tipi in a page: few-shot CLIP on WebGPU. Everything is done in a worker; nothing leaves the page. Types: tipi.d.ts.

/** An error of tipi's. `kind` is the library's name for it: Invalid, Image, DeviceLost, OutOfMemory, Stopped and others. */
export class TipiError extends Error {
    constructor(kind, message) {
        super(message);
        this.name = 'TipiError';
        this.kind = kind;
    }
}

/** What a browser lacks to run tipi, in words; null where it lacks nothing. */
export function missing() {
    if (!globalThis.isSecureContext) return 'WebGPU needs a page from https or from localhost';
    if (!globalThis.navigator?.gpu) {
        return 'this browser has no WebGPU: use a current Chrome or Edge, and look at chrome://gpu where it is switched off';
    }
    if (!globalThis.WebAssembly?.Suspending) {
        return 'this browser cannot suspend WebAssembly (JavaScript Promise Integration): use Chrome or Edge from version 137 on';
    }
    return null;
}

/** The worker, and who waits for its answers. */
class Worker_ {
    #worker;
    #waiting = new Map();
    #last = 0;
    /** Which worker it is, of all that were started: what one held, the next does not know, and it numbers its own anew. */
    era = 0;

    #started() {
        if (this.#worker) return this.#worker;
        const lack = missing();
        if (lack) throw new TipiError('NoDevice', lack);
        const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
        worker.onmessage = ({ data: { id, answer, error, progress, note } }) => {
            const waiting = this.#waiting.get(id);
            if (!waiting) return;
            if (progress) return waiting.onProgress?.(progress);
            if (note) return waiting.onNote?.(note);
            this.#waiting.delete(id);
            if (error) {
                waiting.reject(new TipiError(error.kind, error.message));
                // A module that panicked is no use any more; the next call gets a new one.
                if (error.kind === 'Crashed') this.#end(`tipi crashed (${error.message}), and what it held is lost: load the model again`);
            } else waiting.resolve(answer);
        };
        worker.onerror = event => this.#end(event.message || 'the worker cannot be loaded: is worker.js beside tipi.js?');
        return this.#worker = worker;
    }

    #end(message) {
        if (this.#worker) this.era++;
        this.#worker?.terminate();
        this.#worker = undefined;
        for (const { reject } of this.#waiting.values()) reject(new TipiError('Crashed', message));
        this.#waiting.clear();
    }

    /** Asks for something; `transfer` goes over without a copy. */
    async ask(request, { signal, onProgress, onNote } = {}, transfer = []) {
        if (signal?.aborted) throw new TipiError('Stopped', 'it was stopped');
        const worker = this.#started();
        const id = ++this.#last;
        const stop = () => worker.postMessage({ stop: id });
        signal?.addEventListener('abort', stop, { once: true });
        try {
            return await new Promise((resolve, reject) => {
                this.#waiting.set(id, { resolve, reject, onProgress, onNote });
                try {
                    worker.postMessage({ id, request }, transfer);
                } catch (error) {
                    this.#waiting.delete(id);
                    reject(new TipiError('Invalid', error.message));
                }
            });
        } finally {
            signal?.removeEventListener('abort', stop);
        }
    }

    /** Gives something back, where the worker that holds it is still there. */
    free({ number, era }) {
        if (this.#worker && era === this.era) this.ask({ what: 'free', number }).catch(() => {});
    }

    stop() {
        this.#end('tipi was closed');
    }
}

const worker = new Worker_();
// What a page forgets is given back; `free` does it at once.
const forgotten = new FinalizationRegistry(held => worker.free(held));

/** Something that the worker holds. */
class Held {
    #held;

    constructor(number) {
        this.#held = { number, era: worker.era };
        forgotten.register(this, this.#held, this);
    }

    get number() {
        if (!this.#held) throw new TipiError('Invalid', `this ${this.constructor.name} was freed`);
        if (this.#held.era !== worker.era) throw new TipiError('Crashed', `this ${this.constructor.name} was lost with its worker: make it again`);
        return this.#held.number;
    }

    free() {
        if (!this.#held) return;
        forgotten.unregister(this);
        worker.free(this.#held);
        this.#held = undefined;
    }
}

const listed = given => (Array.isArray(given) ? given : [given]);
const prompts = given => (given === undefined ? [] : listed(given));

export class Model extends Held {
    #width;

    constructor({ number, width }) {
        super(number);
        this.#width = width;
    }

    static async load(files, { name, precision = 'f32', ...watch } = {}) {
        const request = { what: 'load', name: name ?? 'model', precision };
        // Addresses are the page's; the worker has another.
        const absolute = address => new URL(address, globalThis.location?.href).href;
        if (typeof files === 'string' || files instanceof URL) {
            request.folder = absolute(String(files).replace(/\/*$/, '/'));
            request.name = name ?? new URL(request.folder).pathname.split('/').filter(Boolean).pop() ?? 'model';
        } else if (Array.isArray(files) || globalThis.FileList && files instanceof FileList) {
            request.files = Object.fromEntries([...files].map(file => [file.name, file]));
        } else {
            request.files = Object.fromEntries(Object.entries(files).map(([file, from]) => [file, typeof from === 'string' || from instanceof URL ? absolute(from) : from]));
        }
        return new Model(await worker.ask(request, watch));
    }

    get width() { return this.#width; }

    async encodeImages(pictures, watch) {
        return worker.ask({ what: 'encodeImages', model: this.number, pictures: listed(pictures) }, watch);
    }

    async encodePixels(values, watch) {
        return worker.ask({ what: 'encodePixels', model: this.number, values }, watch);
    }

    async encodeTexts(texts, watch) {
        return worker.ask({ what: 'encodeTexts', model: this.number, texts: listed(texts) }, watch);
    }

    async zeroShot(classes, templates = 'a photo of a {}.', watch) {
        const request = { what: 'zeroShot', model: this.number, classes, templates: listed(templates) };
        // Nothing was learned.
        return new Classifier({ ...await worker.ask(request, watch), method: null });
    }

    async fit(method, examples, { settings, how, template, words, seed = 1, correction, ...watch } = {}) {
        const own = examples instanceof Examples ? null : await Examples.of(examples);
        try {
            const request = {
                what: 'fit', method, model: this.number, examples: (own ?? examples).number, templates: prompts(template), words, seed,
                settings: settings && JSON.stringify(settings), how: how && JSON.stringify(how), correction: correction?.number,
            };
            const { classifier, ...report } = await worker.ask(request, watch);
            return { classifier: new Classifier(classifier), ...report };
        } finally {
            own?.free();
        }
    }

    async loadAdapter(adapter, { name = adapter?.name ?? 'adapter.safetensors' } = {}) {
        return new Classifier(await worker.ask({ what: 'openAdapter', model: this.number, name, bytes: adapter }));
    }

    async loadCorrection(correction, { name = correction?.name ?? 'correction.safetensors' } = {}) {
        return new Correction(await worker.ask({ what: 'openCorrection', model: this.number, name, bytes: correction }));
    }

    /** Gives back the GPU memory that is kept for the next pictures. */
    async release() {
        return worker.ask({ what: 'release', model: this.number });
    }
}

export class Correction extends Held {}

export class Examples extends Held {
    #classes = [];

    static async create() {
        return new Examples(await worker.ask({ what: 'examples' }));
    }

    /** Of an object of classes' names and lists of pictures. */
    static async of(pictures) {
        const examples = await Examples.create();
        try {
            for (const [name, all] of Object.entries(pictures)) await examples.add(name, all);
        } catch (error) {
            examples.free();
            throw error;
        }
        return examples;
    }

    get classes() { return [...this.#classes]; }

    async #put(name, pictures, validation) {
        const given = listed(pictures).map(picture => ({ class: name, picture }));
        this.#classes = await worker.ask({ what: 'add', examples: this.number, pictures: given, validation });
    }

    add(name, pictures) { return this.#put(name, pictures, false); }

    addValidation(name, pictures) { return this.#put(name, pictures, true); }
}

export class Classifier extends Held {
    constructor({ number, classes, method }) {
        super(number);
        this.classes = classes;
        this.method = method;
    }

    /** Answers for pictures, in their order. A picture that cannot be read has an answer with `error` in it. */
    async predict(pictures, { keep, unknownBy, ...watch } = {}) {
        const request = { what: 'predict', classifier: this.number, pictures: listed(pictures), keep, unknownBy };
        const answers = await worker.ask(request, watch);
        for (const answer of answers) {
            if (answer.error) continue;
            const order = this.classes.map((name, at) => ({ name, probability: answer.probabilities[at], score: answer.scores[at] }));
            answer.top = order.sort((a, b) => b.probability - a.probability);
        }
        return answers;
    }

    /** The adapter as a file's bytes: the same file that `tipi fit` writes. */
    async saveAdapter() {
        return worker.ask({ what: 'save', classifier: this.number });
    }
}

/** The GPU that is used. */
export const device = () => worker.ask({ what: 'device' });
/** All methods, with their settings. */
export const methods = () => worker.ask({ what: 'methods' });
/** Ends the worker. What it held is gone. */
export const close = () => worker.stop();
