// What the page draws.

/** Similarities of two rows of features. */
function cosine(a, b) {
    let [ab, aa, bb] = [0, 0, 0];
    for (let at = 0; at < a.length; at++) { ab += a[at] * b[at]; aa += a[at] * a[at]; bb += b[at] * b[at]; }
    return ab / Math.sqrt(aa * bb);
}

/** The three examples that are most like a picture. */
export function nearest({ features }, examples) {
    if (!features) return [];
    const known = examples.filter(one => one.features?.length === features.length);
    return known.map(one => ({ ...one, like: cosine(features, one.features) })).sort((a, b) => b.like - a.like).slice(0, 3);
}

function element(name, text, attributes = {}) {
    const made = Object.assign(document.createElement(name), { textContent: text });
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
}

const percent = share => `${Math.round(100 * share)} %`;

/** A picture with its answer. */
export function drawn({ file, url, bad, answer }, near) {
    const item = document.createElement('li');
    const image = Object.assign(new Image(), { src: url, alt: file.name });
    item.append(image);
    const error = bad ?? answer?.error;
    if (error) {
        image.remove();
        item.append(element('span', error, { class: 'error' }));
        return item;
    }
    if (!answer) {
        item.append(element('span', '…'));
        return item;
    }
    const [best, second] = answer.top;
    const name = answer.class ?? 'unknown';
    const meter = element('meter', percent(best.probability), { min: 0, max: 1, value: best.probability, 'aria-label': `${name}, ${percent(best.probability)}` });
    const words = document.createElement('div');
    words.append(element('b', name), ` ${answer.class ? percent(best.probability) : `(most like ${best.name})`}`);
    const other = element('span', second ? `then ${second.name}, ${percent(second.probability)}` : '', { class: 'other' });
    const like = element('div', '', { class: 'near' });
    like.append(...near.map(one => Object.assign(new Image(), { src: one.url, alt: `like the example of ${one.name}`, title: `${one.name}, ${one.like.toFixed(2)}` })));
    const rest = document.createElement('div');
    rest.append(other, like);
    item.append(words, meter, rest);
    return item;
}

/** A row of facts. */
export const fact = (name, value) => [element('dt', name), element('dd', value)];

/** The points of a curve in a box of 300 by 80. */
export function lines(losses) {
    const [low, high] = [Math.min(...losses), Math.max(...losses)];
    return Array.from(losses, (loss, at) => `${(300 * at / (losses.length - 1)).toFixed(1)},${(76 - 72 * (loss - low) / (high - low || 1)).toFixed(1)}`).join(' ');
}
