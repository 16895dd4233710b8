// The page as a person uses it, in a real browser.
//   node page.mjs REPOSITORY SITE TIPI CHROMIUM [SCREENSHOTS]
// SITE is what web/build.sh made, TIPI the program; needs playwright-core and axe-core beside it, and server.mjs of bindings/web/tests.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { chromiumOf, serve } from './server.mjs';

const [repository, site, tipi, browser, shots] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tipi-page-'));
const pictures = path.join(repository, 'examples/pictos/shifted');
/** Some seconds of a slow and busy machine's. */
const PATIENCE = 300_000;

const server = await serve({ '': site });
const chrome = await chromium.launch(chromiumOf(browser));
const said = [];
const asked = new Set();
const context = await chrome.newContext({ viewport: { width: 1100, height: 900 }, colorScheme: 'light' });
context.setDefaultTimeout(PATIENCE);
context.on('request', request => asked.add(new URL(request.url()).origin));

async function opened(of = context) {
    const page = await of.newPage();
    page.on('console', message => { if (['error', 'warning'].includes(message.type())) said.push(message.text()); });
    page.on('pageerror', error => said.push(error.message));
    await page.goto(`${server.address}/index.html`);
    return page;
}

const state = (page, pattern) => page.waitForFunction(source => new RegExp(source).test(document.getElementById('state').textContent), pattern.source);
/** Answers on the page: names, as many as there are pictures, once none is still open. */
async function answers(page, count) {
    await page.waitForFunction(count => {
        const all = [...document.querySelectorAll('#answers li')];
        return all.length === count && all.every(one => one.querySelector('b, .error'));
    }, count);
    return page.$$eval('#answers li', all => all.map(one => ({
        file: one.querySelector(':scope > img')?.alt, name: one.querySelector('b')?.textContent,
        sure: Number(one.querySelector('meter')?.value), error: one.querySelector('.error')?.textContent, near: one.querySelectorAll('.near img').length,
    })));
}
const shot = (page, name) => shots && page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
const fault = async page => (await page.isVisible('#fault') ? page.textContent('#fault-text') : null);

let adapter, learned;
const steps = {
    async 'names alone answer at once'(page) {
        await state(page, /Name two classes/);
        const names = await page.$$('.class .name');
        await names[0].fill('bell');
        await names[1].fill('bell');
        await page.waitForFunction(() => /called 'bell'/.test(document.getElementById('fault-text').textContent));
        await page.click('#fault-close');
        await names[1].fill('car');
        await state(page, /by names alone/);
        await page.setInputFiles('#files', ['bell/lucide-bell.png', 'car/lucide-car.png'].map(file => path.join(pictures, file)));
        const found = await answers(page, 2);
        assert.ok(found.every(({ file, name }) => file.includes(name)), JSON.stringify(found));
        // Names have learned nothing that could tell what is unknown.
        await page.check('#unknown');
        await answers(page, 2);
        await page.uncheck('#unknown');
        await answers(page, 2);
        assert.ok(await page.isDisabled('#export'));
        await page.click('#clear');
    },

    async 'sample pictures teach, and answers have examples beside them'(page) {
        await page.click('#sample');
        await state(page, /Learned 4 classes from 12 pictures by Tip-Adapter/);
        const found = await answers(page, 8);
        assert.ok(found.every(({ near, error }) => near === 3 && !error), JSON.stringify(found));
        const sure = found.map(one => one.sure);
        assert.deepEqual(sure, [...sure].sort((a, b) => b - a));
        await shot(page, 'learned');
        // Choosing another method loses nothing.
        await page.selectOption('#method', 'pini');
        await state(page, /learned before/);
        assert.deepEqual(await answers(page, 8), found);
        assert.ok(!await page.isDisabled('#export'));
    },

    async 'PiNI shows how far it is, stops, and keeps what was learned'(page) {
        await page.selectOption('#method', 'pini');
        await page.click('#learn');
        await page.waitForFunction(() => /epoch/.test(document.getElementById('progress-text').textContent));
        await shot(page, 'learning');
        await page.click('#stop');
        await state(page, /Stopped/);
        await page.selectOption('#method', 'tip-adapter-f');
        await page.click('#learn');
        await state(page, /by Tip-Adapter-F/);
        assert.ok(await page.isVisible('#curve'));
        learned = await answers(page, 8);
    },

    async 'an adapter is saved, read by the program, and opened again'(page) {
        const [download] = await Promise.all([page.waitForEvent('download'), page.click('#export')]);
        adapter = path.join(folder, 'adapter.safetensors');
        await download.saveAs(adapter);
        const files = (await page.$$eval('#answers li > img', all => all.map(({ alt }) => alt)))
            .map(name => execFileSync('find', [pictures, '-name', name]).toString().trim().split('\n')[0]);
        const run = ['predict', '--model', 'weights/picto', '--adapter', adapter, '--json', ...files];
        const natively = JSON.parse(execFileSync(tipi, run, { cwd: repository, env: { ...process.env, TIPI_TUNE: 'off' }, stdio: ['ignore', 'pipe', 'pipe'] }));
        for (const [at, one] of learned.entries()) {
            assert.equal(one.name, natively[at].likeliest, one.file);
            assert.ok(Math.abs(one.sure - natively[at].probability) < 1e-3, `${one.file}: ${one.sure}, natively ${natively[at].probability}`);
        }
        await page.reload();
        await state(page, /Name two classes/);
        await page.setInputFiles('#adapter', adapter);
        await state(page, /adapter\.safetensors: 4 classes/);
        // What was opened stays when another method is chosen.
        await page.selectOption('#method', 'gda');
        await page.setInputFiles('#files', files);
        const again = await answers(page, 8);
        assert.deepEqual(again.map(({ file, name }) => `${file} ${name}`).sort(), learned.map(({ file, name }) => `${file} ${name}`).sort());
    },

    async 'what is no picture says so, and the rest goes on'(page) {
        await page.click('#clear');
        const text = path.join(folder, 'notes.png');
        fs.writeFileSync(text, 'nothing to see');
        const changed = path.join(folder, 'changed.png');
        fs.copyFileSync(path.join(pictures, 'car/lucide-car.png'), changed);
        await page.setInputFiles('#files', [text, changed, path.join(pictures, 'bell/lucide-bell.png')]);
        const found = await answers(page, 3);
        assert.equal(found.filter(({ error }) => /notes\.png/.test(error ?? '')).length, 1, JSON.stringify(found));
        // A file that was written to meanwhile is no longer the one that was chosen.
        fs.writeFileSync(changed, 'something else, and longer');
        fs.utimesSync(changed, 1e9, 1e9);
        await page.check('#unknown');
        await page.waitForFunction(() => /changed\.png.*choose it again/.test(document.getElementById('answers').textContent));
        assert.ok((await answers(page, 3)).some(({ file, error }) => /bell/.test(file ?? '') && !error));
        await page.uncheck('#unknown');
        await answers(page, 3);
        await page.setInputFiles('#adapter', text);
        await page.waitForFunction(() => !document.getElementById('fault').hidden);
        assert.match(await fault(page), /notes\.png/);
        await page.setInputFiles('#model-files', [path.join(repository, 'weights/picto/config.json')]);
        await page.waitForFunction(() => /safetensors/.test(document.getElementById('fault-text').textContent));
        await page.click('#fault-close');
    },

    async 'nothing is wider than a small screen, and the keyboard reaches everything'(page) {
        await page.setViewportSize({ width: 380, height: 800 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= 380, `${wide} pixels`);
        await page.emulateMedia({ colorScheme: 'dark' });
        await shot(page, 'small-dark');
        await page.evaluate(() => document.activeElement?.blur());
        const reached = new Set();
        for (let press = 0; press < 60; press++) {
            await page.keyboard.press('Tab');
            reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.className));
        }
        for (const id of ['add-class', 'sample', 'method', 'template', 'learn', 'pick', 'camera', 'unknown', 'import', 'model', 'name', 'more']) {
            assert.ok(reached.has(id), `${id} is not reached: ${[...reached]}`);
        }
        for (const colorScheme of ['dark', 'light']) {
            await page.emulateMedia({ colorScheme });
            await page.evaluate(axe);
            const { violations } = await page.evaluate(() => globalThis.axe.run());
            assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), [], colorScheme);
        }
    },

    async 'it works without a network after the first visit'(page) {
        await page.evaluate(() => navigator.serviceWorker.ready);
        await page.reload();
        await state(page, /Name two classes/);
        await context.setOffline(true);
        await page.reload();
        await state(page, /Name two classes/);
        await page.click('#sample');
        await state(page, /Learned 4 classes/);
        await context.setOffline(false);
    },

    async 'without WebGPU it says what to do'() {
        const other = await chrome.newContext();
        await other.addInitScript(() => Object.defineProperty(navigator, 'gpu', { value: undefined }));
        const page = await opened(other);
        await page.waitForSelector('#lack:not([hidden])');
        assert.match(await page.textContent('#lack'), /WebGPU.*Chrome or Edge/);
        await other.close();
    },
};

let failed = 0;
const page = await opened();
for (const [name, step] of Object.entries(steps)) {
    const begun = performance.now();
    try {
        await step(page);
        const wrong = await fault(page);
        if (wrong) throw new Error(`the page says: ${wrong}`);
        console.log(`ok: ${name} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
    } catch (error) {
        failed++;
        console.log(`FAILED: ${name}: ${error.stack}`);
        await shot(page, `failed-${failed}`);
        await page.setViewportSize({ width: 1100, height: 900 });
        await page.evaluate(() => { document.getElementById('fault').hidden = true; }).catch(() => {});
    }
}
const others = [...asked].filter(origin => origin !== server.address && origin !== 'null');
if (others.length) { failed++; console.log(`FAILED: requests to ${others}`); }
const complaints = said.filter(text => !/ERR_INTERNET_DISCONNECTED/.test(text));
if (complaints.length) { failed++; console.log(`FAILED: the console says\n${complaints.join('\n')}`); }
if (server.missed.length) { failed++; console.log(`FAILED: not served: ${server.missed}`); }
await chrome.close();
server.close();
fs.rmSync(folder, { recursive: true });
console.log(failed ? `${failed} failed` : 'all passed');
process.exit(failed ? 1 : 0);
