// Keeps the page for when there is no network. The model is in tipi's own cache.

const CACHE = 'tipi-page';

self.addEventListener('install', event => {
    event.waitUntil((async () => {
        const cache = await caches.open(CACHE);
        await cache.addAll(await (await fetch('offline.json', { cache: 'no-store' })).json());
        await self.skipWaiting();
    })());
});
self.addEventListener('activate', event => event.waitUntil(self.clients.claim()));
// The network first, so that a new version is seen at once.
self.addEventListener('fetch', event => {
    if (event.request.method !== 'GET' || new URL(event.request.url).origin !== location.origin) return;
    event.respondWith(fetch(event.request).catch(async error => {
        const kept = await (await caches.open(CACHE)).match(event.request, { ignoreSearch: true });
        if (kept) return kept;
        throw error;
    }));
});
