// The page: what a person sees and does. All computing is tipi's (tipi/tipi.js), in a worker.

import * as tipi from './tipi/tipi.js';
import { drawn, fact, lines, nearest } from './view.js';

const $ = id => document.getElementById(id);
/** Pictures of each class from which on examples teach more than the name. */
const ENOUGH = 2;
/** Share of pictures of the classes that are kept where "unknown" is wanted. */
const KEEP = 0.9;

/** Classes with their examples, and pictures to try: {file, url, features}. */
const classes = [];
const tried = [];
let model, learned, running, stopper;
let template = $('template').value;
/** What learning found where a person pressed the button: it stays until examples change. */
let pinned = false;
const times = new Map();

/** Does something, and shows what goes wrong. */
async function safely(work) {
    try {
        return await work();
    } catch (error) {
        if (error.kind === 'Stopped') return $('state').textContent = 'Stopped. What was learned before stays.';
        $('fault-text').textContent = error.message;
        $('again').hidden = Boolean(model) && !['DeviceLost', 'Crashed'].includes(error.kind);
        $('fault').hidden = false;
        if (!error.kind) console.error(error);
    }
}

async function timed(what, work) {
    const begun = performance.now();
    const result = await work();
    times.set(what, performance.now() - begun);
    facts();
    return result;
}

/** What watches long work. */
function watch() {
    stopper = new AbortController();
    return {
        signal: stopper.signal,
        onProgress({ what, done, total, words }) {
            $('progress').hidden = false;
            $('bar').value = total ? done / total : 0;
            $('progress-text').textContent = `${what}: ${Math.round(100 * done / Math.max(total, 1))} %${words && `, ${words}`}`;
        },
        onNote: note => { $('state').textContent = note; },
    };
}

/** One after the other: what a round uses must not change below it. */
let last = Promise.resolve();
function inTurn(work) {
    const mine = last.then(work);
    last = mine.catch(() => {});
    return mine;
}

/** Takes another classifier, and gives the one before back. */
function teachBy(next) {
    learned?.free();
    learned = next;
    $('export').disabled = !next?.method;
}

/** What the model was loaded from: "Start again" loads it anew. */
let source = ['model/'];

async function loaded(files, options) {
    const before = [model, $('state').textContent];
    $('state').textContent = 'Loading the model…';
    try {
        model = await timed('loading the model', () => tipi.Model.load(files, { ...watch(), ...options }));
    } catch (error) {
        // The model that was there is still in use.
        $('state').textContent = before[1];
        throw error;
    } finally {
        $('progress').hidden = true;
    }
    source = [files, options];
    before[0]?.free();
    for (const one of [...classes.flatMap(({ pictures }) => pictures), ...tried]) one.features = undefined;
    teachBy(undefined);
    pinned = false;
    const all = await tipi.methods();
    $('method').replaceChildren(...all.filter(({ needsCorrection }) => !needsCorrection).map(({ name, title, about, trains }) => {
        const option = new Option(title, name, name === 'tip-adapter', name === 'tip-adapter');
        Object.assign(option.dataset, { about, trains });
        return option;
    }));
    told();
}

const chosen = () => $('method').selectedOptions[0];
const named = () => classes.filter(({ name }) => name);
const told = () => { $('about').textContent = chosen()?.dataset.about ?? ''; };
const taught = () => named().length > 1 && named().every(({ pictures }) => pictures.length >= ENOUGH);

/** Learns anew where that is quick, and answers. One run at a time; changes meanwhile lead to another. */
async function refresh({ learn = false } = {}) {
    if (!model) return;
    if (running) { running.again = true; running.learn ||= learn; return; }
    do {
        running = { again: false, learn: false };
        await inTurn(() => safely(() => round(learn)));
        learn = running.learn;
    } while (running.again);
    running = undefined;
    $('progress').hidden = true;
    $('stop').hidden = true;
    $('learn').disabled = false;
}

async function round(learn) {
    const of = named();
    const words = !pinned || learn ? await teach(of, learn) : undefined;
    if (!learned) {
        $('state').textContent = 'Name two classes to begin.';
        return show();
    }
    await answer();
    show();
    if (words) $('state').textContent = words;
}

/** Learns; gives what to say of it once the answers are there, too. */
async function teach(of, learn) {
    if (of.length < 2) { teachBy(undefined); return; }
    const twice = of.find(({ name }, at) => of.findIndex(one => one.name === name) < at);
    if (twice) throw new tipi.TipiError('Invalid', `two classes are called '${twice.name}': rename one`);
    const slow = chosen()?.dataset.trains === 'true';
    // What took long to learn stays until other classes or a person ask for more.
    const same = learned?.method && learned.classes.length === of.length && of.every(({ name }) => learned.classes.includes(name));
    if (slow && !learn && same) return 'Answers by what was learned before. Press Learn to learn anew.';
    if (!taught() || (slow && !learn)) {
        if (learn) throw new tipi.TipiError('Invalid', `give at least ${ENOUGH} pictures of each class to learn from`);
        teachBy(await timed('words alone', () => model.zeroShot(of.map(({ name }) => name), template)));
        $('curve').hidden = true;
        return 'Answers by names alone.';
    }
    $('learn').disabled = true;
    $('stop').hidden = !slow;
    const examples = Object.fromEntries(of.map(({ name, pictures }) => [name, pictures.map(({ file }) => file)]));
    const method = chosen().value;
    const options = { template, how: { key_views: 0, augment: false }, ...watch() };
    // Set before: what changes meanwhile takes it back.
    const was = pinned;
    pinned = learn;
    const { classifier, losses } = await timed(`learning (${chosen().text})`, () => model.fit(method, examples, options)).catch(error => {
        pinned &&= was;
        throw error;
    });
    teachBy(classifier);
    const count = of.reduce((sum, { pictures }) => sum + pictures.length, 0);
    $('curve').hidden = losses.length < 2;
    if (losses.length > 1) {
        $('curve-line').setAttribute('points', lines(losses));
        $('curve-text').textContent = `Loss over ${losses.length} epochs, from ${losses[0].toFixed(3)} to ${losses.at(-1).toFixed(3)}`;
    }
    return `Learned ${of.length} classes from ${count} pictures by ${chosen().text}.`;
}

async function answer() {
    const all = [...classes.flatMap(({ pictures }) => pictures), ...tried].filter(({ features, bad }) => !features && !bad);
    for (const one of all) {
        await model.encodeImages(one.file).then(features => { one.features = features; }, error => {
            if (error.kind !== 'Image') throw error;
            one.bad = error.message;
        });
    }
    const sound = tried.filter(({ bad }) => !bad);
    if (!sound.length) return;
    const keep = $('unknown').checked && learned.method ? KEEP : undefined;
    const answers = await timed(`answering ${sound.length} pictures`, () => learned.predict(sound.map(({ file }) => file), { keep, ...watch() }));
    sound.forEach((one, at) => { one.answer = answers[at]; });
}

function show() {
    const examples = named().flatMap(({ name, pictures }) => pictures.map(picture => ({ ...picture, name })));
    const order = tried.map(one => ({ one, sure: one.answer?.top?.[0].probability ?? -1 }));
    order.sort((a, b) => b.sure - a.sure);
    $('answers').replaceChildren(...order.map(({ one }) => drawn(one, nearest(one, examples))));
    facts();
}

let machine;
async function facts() {
    const rows = [...times].map(([what, ms]) => [what, ms < 10_000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`]);
    if (model && !machine) machine = await tipi.device().catch(() => undefined);
    const about = machine ? [['GPU', machine.about], ['What it can do', machine.capabilities]] : [];
    $('facts').replaceChildren(...[...about, ...rows].flatMap(([name, value]) => fact(name, value)));
}

/** A class, on the page and in the list. */
function added(name = '') {
    const card = $('class-card').content.cloneNode(true).firstElementChild;
    const one = { name, pictures: [], card };
    const find = selector => card.querySelector(selector);
    find('.name').value = name;
    find('.name').oninput = ({ target }) => { one.name = target.value.trim(); changed(); };
    find('.more').onclick = () => find('.pictures').click();
    find('.pictures').onchange = ({ target }) => { put(one, target.files); target.value = ''; };
    find('.gone').onclick = () => { forgotten(one.pictures); classes.splice(classes.indexOf(one), 1); card.remove(); labelled(); changed(); };
    dropped(card, files => put(one, files));
    classes.push(one);
    $('classes').append(card);
    labelled();
    return one;
}

/** Buttons say what they are for. */
function labelled() {
    for (const [at, { card, name }] of classes.entries()) {
        const of = name || `class ${at + 1}`;
        card.querySelector('.more').setAttribute('aria-label', `Add pictures of ${of}`);
        card.querySelector('.gone').setAttribute('aria-label', `Remove ${of}`);
        card.querySelector('.thumbs').setAttribute('aria-label', `Examples of ${of}`);
    }
}

const pictured = file => ({ file, url: URL.createObjectURL(file) });
const forgotten = pictures => pictures.forEach(({ url }) => URL.revokeObjectURL(url));

function put(one, files) {
    for (const file of files) {
        const picture = pictured(file);
        one.pictures.push(picture);
        const item = document.createElement('li');
        const image = Object.assign(new Image(), { src: picture.url, alt: `example of ${one.name || 'this class'}: ${file.name}` });
        const gone = Object.assign(document.createElement('button'), { type: 'button', textContent: '×' });
        gone.setAttribute('aria-label', `Remove ${file.name}`);
        gone.onclick = () => { forgotten([picture]); one.pictures.splice(one.pictures.indexOf(picture), 1); item.remove(); changed(); };
        item.append(image, gone);
        one.card.querySelector('.thumbs').append(item);
    }
    changed();
}

function test(files) {
    tried.push(...[...files].map(pictured));
    refresh();
}

function dropped(place, take) {
    place.addEventListener('dragover', event => { event.preventDefault(); place.classList.add('over'); });
    place.addEventListener('dragleave', () => place.classList.remove('over'));
    place.addEventListener('drop', event => { event.preventDefault(); place.classList.remove('over'); take(event.dataTransfer.files); });
}

let later;
/** Examples or names changed: what was learned is out of date. */
function changed() {
    pinned = false;
    labelled();
    clearTimeout(later);
    later = setTimeout(refresh, 300);
}

async function sample() {
    const { classes: some, tests } = await (await fetch('samples.json')).json();
    const files = names => Promise.all(names.map(async name => new File([await (await fetch(`samples/${name}`)).blob()], name.split('/').pop())));
    for (const [name, pictures] of Object.entries(some)) put(classes.find(one => one.name === name) ?? added(name), await files(pictures));
    test(await files(tests));
}

const ended = stream => stream?.getTracks().forEach(track => track.stop());

/** The camera, as long as its window is open. */
async function camera() {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true }).catch(error => {
        throw new tipi.TipiError('Io', `the camera cannot be used (${error.message}); allow it in the browser's settings for this page`);
    });
    // Another press while the browser asked for permission.
    ended($('video').srcObject);
    $('video').srcObject = stream;
    $('shot-for').replaceChildren(new Option('trying', ''), ...named().map(({ name }) => new Option(name, name)));
    $('shot').onclose = () => ended(stream);
    if (!$('shot').open) $('shot').showModal();
}

async function take() {
    const { videoWidth: width, videoHeight: height } = $('video');
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext('2d').drawImage($('video'), 0, 0);
    const file = new File([await canvas.convertToBlob()], `camera-${Date.now()}.png`, { type: 'image/png' });
    const one = classes.find(({ name }) => name && name === $('shot-for').value);
    if (one) put(one, [file]); else test([file]);
}

function save(bytes, name) {
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(new Blob([bytes])), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function opened(file) {
    const of = await inTurn(async () => {
        if (!model) throw new tipi.TipiError('Invalid', 'there is no model to open it with: load one first');
        teachBy(await model.loadAdapter(file));
        pinned = true;
        return learned.classes;
    });
    $('curve').hidden = true;
    await refresh();
    $('state').textContent = `${file.name}: ${of.length} classes (${of.slice(0, 8).join(', ')}${of.length > 8 ? ', …' : ''}).`;
}

$('add-class').onclick = () => added().card.querySelector('.name').focus();
$('sample').onclick = () => safely(sample);
$('learn').onclick = () => refresh({ learn: true });
$('stop').onclick = () => stopper?.abort();
// Where there is nothing to learn from, what was learned or opened stays.
const otherwise = () => { if (taught() || !learned?.method) changed(); };
$('method').onchange = () => { told(); otherwise(); };
$('template').onchange = ({ target }) => { template = target.value; otherwise(); };
$('pick').onclick = () => $('files').click();
$('files').onchange = ({ target }) => { test(target.files); target.value = ''; };
$('clear').onclick = () => { forgotten(tried); tried.length = 0; show(); };
$('unknown').onchange = () => refresh();
$('camera').onclick = () => safely(camera);
$('take').onclick = () => safely(take);
$('shot-close').onclick = () => $('shot').close();
$('export').onclick = () => safely(async () => save(await learned.saveAdapter(), 'adapter.safetensors'));
$('import').onclick = () => $('adapter').click();
$('adapter').onchange = ({ target }) => { const [file] = target.files; target.value = ''; if (file) safely(() => opened(file)); };
$('model').onclick = () => $('model-files').click();
$('model-files').onchange = ({ target }) => {
    const files = [...target.files];
    target.value = '';
    safely(async () => { await inTurn(() => loaded(files, { precision: 'f16' })); await refresh(); });
};
$('fault-close').onclick = () => { $('fault').hidden = true; };
$('again').onclick = () => {
    $('fault').hidden = true;
    safely(async () => {
        tipi.close();
        model = machine = undefined;
        await inTurn(() => loaded(...source));
        // What was under way has failed meanwhile, and said so.
        $('fault').hidden = true;
        await refresh();
    });
};
dropped($('drop'), test);
// A picture that misses its place must not replace the page.
for (const event of ['dragover', 'drop']) document.addEventListener(event, given => given.preventDefault());

added();
added();
const lack = tipi.missing();
if (lack) {
    $('lack').textContent = `tipi cannot run here: ${lack}.`;
    $('lack').hidden = false;
    $('state').textContent = 'Nothing can be learned in this browser.';
} else {
    safely(async () => { await inTurn(() => loaded(...source)); await refresh(); });
    // After the first visit the page needs no network.
    navigator.serviceWorker?.register('offline.js').catch(error => console.warn(`not kept for offline use: ${error.message}`));
}
// Pictures and what was learned are nowhere but here.
addEventListener('beforeunload', event => {
    if (classes.some(({ pictures }) => pictures.length) || learned?.method) event.preventDefault();
});
