// A static server for the tests (the package, the bundled model and pictures, and a page), and how their browser is started.

import fs from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';

const TYPES = { '.css': 'text/css', '.html': 'text/html', '.js': 'text/javascript', '.json': 'application/json', '.mjs': 'text/javascript', '.png': 'image/png', '.wasm': 'application/wasm' };
const PAGE = '<!doctype html><html lang="en"><title>tipi</title><link rel="icon" href="data:,"><p>tipi</p>';

/** Chromium with its own driver for the processor, where there is no GPU that it takes. */
export const chromiumOf = executablePath => ({
    executablePath, headless: true,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
});

/** What sets a page apart from all others, which threads need. */
const APART = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

/** Serves folders below the names of `mounts`, pages apart from others where asked; `missed` collects what was not there. */
export async function serve(mounts, apart = false) {
    const missed = [], more = apart ? APART : {};
    const server = http.createServer(async (request, answer) => {
        const { pathname } = new URL(request.url, 'http://localhost');
        const at = decodeURIComponent(pathname);
        if (at === '/') return answer.writeHead(200, { 'content-type': 'text/html', ...more }).end(PAGE);
        // The empty name is the root.
        const mount = Object.keys(mounts).find(name => at.startsWith(name ? `/${name}/` : '/'));
        try {
            const bytes = await fs.readFile(path.join(mounts[mount], path.normalize(at.slice(mount ? mount.length + 1 : 0))));
            const type = TYPES[path.extname(at)] ?? 'application/octet-stream';
            answer.writeHead(200, { 'content-type': type, 'content-length': bytes.length, ...more }).end(bytes);
        } catch {
            missed.push(at);
            answer.writeHead(404).end();
        }
    });
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
    return { address: `http://127.0.0.1:${server.address().port}`, missed, close: () => server.close() };
}
