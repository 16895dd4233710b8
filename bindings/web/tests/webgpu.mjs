// Whether this browser can start here and has WebGPU; says what it lacks.
//   node webgpu.mjs CHROMIUM

import { chromium } from 'playwright-core';
import { chromiumOf, serve } from './server.mjs';

const server = await serve({});
let lack;
try {
    const chrome = await chromium.launch(chromiumOf(process.argv[2]));
    const page = await chrome.newPage();
    await page.goto(server.address);
    const found = await page.evaluate(async () => ({
        adapter: Boolean(await navigator.gpu?.requestAdapter()), suspends: Boolean(globalThis.WebAssembly?.Suspending),
    }));
    if (!found.adapter) lack = 'it has no WebGPU here';
    else if (!found.suspends) lack = 'it is older than 137';
    await chrome.close();
} catch (error) {
    lack = error.message.split('\n')[0];
}
if (lack) console.log(lack);
process.exit(lack ? 1 : 0);
