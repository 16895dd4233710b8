// Safetensors files for the tests: read, and written again in shards.

import fs from 'node:fs';
import path from 'node:path';

function opened(file) {
    const bytes = fs.readFileSync(file);
    const ends = 8 + Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, ends));
    delete header.__metadata__;
    return { header, of: ({ data_offsets: [from, to] }) => bytes.subarray(ends + from, ends + to) };
}

/** The f32 tensors of a file by their names. */
export function floats(file) {
    const { header, of } = opened(file);
    const all = Object.entries(header).filter(([, { dtype }]) => dtype === 'F32');
    return Object.fromEntries(all.map(([name, tensor]) => [name, new Float32Array(Uint8Array.from(of(tensor)).buffer)]));
}

/** Writes a model's folder again, with its weights in so many files and an index. */
export function shard(folder, to, count) {
    fs.cpSync(folder, to, { recursive: true, filter: file => !file.endsWith('model.safetensors') });
    const { header, of } = opened(path.join(folder, 'model.safetensors'));
    const weight_map = {};
    for (let shard = 0; shard < count; shard++) {
        const file = `model-${shard + 1}-of-${count}.safetensors`, own = {}, parts = [];
        let end = 0;
        for (const [name, tensor] of Object.entries(header).filter((_, at) => at % count === shard)) {
            parts.push(of(tensor));
            own[name] = { ...tensor, data_offsets: [end, end += parts.at(-1).length] };
            weight_map[name] = file;
        }
        const text = JSON.stringify(own);
        const head = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
        const length = Buffer.alloc(8);
        length.writeBigUInt64LE(BigInt(head.length));
        fs.writeFileSync(path.join(to, file), Buffer.concat([length, head, ...parts]));
    }
    fs.writeFileSync(path.join(to, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map }));
}
