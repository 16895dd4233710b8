// Keeps the page for when there is no network. The model is in tipi's own cache.

const CACHE = 'tipi-page';

self.addEventListener('install', event => {
    event.waitUntil((async () => {
        const cache = await caches.open(CACHE);
        const all = await (await fetch('offline.json', { cache: 'no-store' })).json();
        await cache.addAll(all.map(url => new Request(url, { cache: 'reload' })));
        await self.skipWaiting();
    })());
});
self.addEventListener('activate', event => event.waitUntil(self.clients.claim()));
// The network first, and what the browser keeps only where the server says that it is still the same, so that a new version is seen at once
// and as a whole.
self.addEventListener('fetch', event => {
    if (event.request.method !== 'GET' || new URL(event.request.url).origin !== location.origin) return;
    event.respondWith(fetch(event.request, { cache: 'no-cache' }).catch(async error => {
        const kept = await (await caches.open(CACHE)).match(event.request, { ignoreSearch: true });
        if (kept) return kept;
        throw error;
    }));
});
