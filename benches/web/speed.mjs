// How fast the package is in a page: load, first answer, pictures a second, a step of PiNI. speed.py does the same natively.
//   node speed.mjs REPOSITORY PACKAGE CHROMIUM          (playwright-core beside it, and server.mjs of bindings/web/tests)

import fs from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { serve } from './server.mjs';

const [repository, built, browser] = process.argv.slice(2);
const pictures = path.join(repository, 'examples/pictos/shifted');
const classes = fs.readdirSync(pictures).filter(name => fs.statSync(path.join(pictures, name)).isDirectory()).sort().slice(0, 8);
const files = classes.map(name => fs.readdirSync(path.join(pictures, name)).sort().slice(0, 8).map(file => `${name}/${file}`));

const server = await serve({ package: built, model: path.join(repository, 'weights/picto'), pictures });
const chrome = await chromium.launch({
    executablePath: browser, headless: true,
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
});
const page = await chrome.newPage();
await page.goto(server.address);
const found = await page.evaluate(async ({ classes, files }) => {
    const tipi = await import('/package/tipi.js');
    const times = {};
    const timed = async (what, work) => { const begun = performance.now(); const result = await work(); times[what] = performance.now() - begun; return result; };
    const of = await Promise.all(files.map(all => Promise.all(all.map(async file => (await fetch(`/pictures/${file}`)).blob()))));
    const all = of.flat();
    const model = await timed('load', () => tipi.Model.load('/model/'));
    await timed('first answer', async () => (await model.zeroShot(classes, 'an icon of {}')).predict(all[0]));
    await timed('first 64 pictures', () => model.encodeImages(all));
    await timed('64 pictures', () => model.encodeImages(all));
    const steps = [];
    const examples = Object.fromEntries(classes.map((name, at) => [name, of[at].slice(0, 4)]));
    await model.fit('pini', examples, {
        template: 'an icon of {}', settings: { epochs: 12 }, how: { augment: false, key_views: 0, judge_by: 'validation' },
        onProgress: ({ words, done }) => { if (/epoch/.test(words)) steps.push([done, performance.now()]); },
    });
    // Without the first half, which compiles kernels.
    const late = steps.slice(steps.length / 2 | 0);
    times['a step of PiNI'] = (late.at(-1)[1] - late[0][1]) / (late.at(-1)[0] - late[0][0]);
    return times;
}, { classes, files });
await chrome.close();
server.close();
for (const [what, ms] of Object.entries(found)) console.log(`${what}: ${ms.toFixed(1)} ms`);
process.exit(0);
