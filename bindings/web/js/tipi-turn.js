// The desk between the worker and the module, and how the module waits: it is suspended until the event loop has turned.

const channel = new MessageChannel();
let turned = () => {};
channel.port1.onmessage = () => turned();

export const turn = new WebAssembly.Suspending(() => new Promise(resolve => {
    turned = resolve;
    channel.port2.postMessage(0);
}));

/** What the worker asks for, and what it finds: one request at a time. */
export const desk = { request: undefined, answer: undefined, error: undefined, stopped: false, progress: () => {}, note: () => {} };

export const request = () => desk.request;
export const reply = answer => { desk.answer = answer; };
export const fail = (kind, message) => { desk.error = { kind, message }; };
export const progress = (what, done, total, words) => desk.progress({ what, done, total, words });
export const note = text => desk.note(text);
export const stopped = () => desk.stopped;
