// The cache term of Tip-Adapter (see affinity.wgsl), from queries and keys in textures, for drivers that run on the CPU in
// subgroups of eight.
//
// As in gemm_texel.wgsl the eight invocations of a workgroup fetch two keys' texels each and hand them to all by broadcasts;
// each has four queries of its own. A tile is 16 keys × 32 queries. A workgroup has a block of whole classes, as many as
// fill a tile or one that fills several, so that sums never leave it; after each tile the exponentials are added up key by
// key, and where a class ends its sums are stored.
//
// Open constants: BETAS, BASE. The subgroup size must be 8.

struct Params {
    queries: u32,
    classes: u32,
    width: u32,
    scale: f32,
    // The keys that `g` holds: from … to before …
    first: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var f: texture_2d<f32>;
@group(0) @binding(2) var g: texture_2d<f32>;
@group(0) @binding(3) var<storage, read> starts: array<u32>;
@group(0) @binding(4) var<storage, read> betas: array<f32>;
@group(0) @binding(5) var<storage, read> base: array<f32>;
@group(0) @binding(6) var<storage, read> blocks: array<u32>; // [blocks, 2]: classes from … to before …
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

const KEYS: u32 = 16u;

fn store(v: vec4<f32>, query: u32, class_: u32, beta: u32) {
    for (var i = 0u; i < 4u; i++) {
        if query + i < p.queries {
            var value = p.scale * v[i];
            if BASE == 1u {
                value += base[(query + i) * p.classes + class_];
            }
            y[(beta * p.queries + query + i) * p.classes + class_] = value;
        }
    }
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    var class_ = blocks[2u * wid.y];
    let past = min(blocks[2u * wid.y + 1u], p.classes);
    let query = (wid.x * 8u + lane) * 4u;
    let q = min(vec4<u32>(query) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.queries - 1u));
    let end = min(starts[past], p.past);
    let steps = (p.width + 3u) / 4u;
    var sums: array<vec4<f32>, BETAS>;
    var dots: array<vec4<f32>, KEYS>;
    var first = min(starts[class_], p.past);
    // Once at least, for a block of classes without keys: their sums of nothing are stored too.
    loop {
        var c: array<vec4<f32>, KEYS>;
        let rows = min(vec2<u32>(first + lane) + vec2<u32>(0u, 8u), vec2<u32>(p.past - 1u)) - p.first;
        for (var i = 0u; i < steps; i++) {
            let k0 = textureLoad(g, vec2<u32>(i, rows.x), 0);
            let k1 = textureLoad(g, vec2<u32>(i, rows.y), 0);
            let t0 = textureLoad(f, vec2<u32>(i, q.x), 0);
            let t1 = textureLoad(f, vec2<u32>(i, q.y), 0);
            let t2 = textureLoad(f, vec2<u32>(i, q.z), 0);
            let t3 = textureLoad(f, vec2<u32>(i, q.w), 0);
            let b0 = vec4<f32>(t0.x, t1.x, t2.x, t3.x);
            let b1 = vec4<f32>(t0.y, t1.y, t2.y, t3.y);
            let b2 = vec4<f32>(t0.z, t1.z, t2.z, t3.z);
            let b3 = vec4<f32>(t0.w, t1.w, t2.w, t3.w);
            c[0] = fma(vec4<f32>(subgroupBroadcast(k0.x, 0u)), b0, c[0]);
            c[1] = fma(vec4<f32>(subgroupBroadcast(k0.x, 1u)), b0, c[1]);
            c[2] = fma(vec4<f32>(subgroupBroadcast(k0.x, 2u)), b0, c[2]);
            c[3] = fma(vec4<f32>(subgroupBroadcast(k0.x, 3u)), b0, c[3]);
            c[4] = fma(vec4<f32>(subgroupBroadcast(k0.x, 4u)), b0, c[4]);
            c[5] = fma(vec4<f32>(subgroupBroadcast(k0.x, 5u)), b0, c[5]);
            c[6] = fma(vec4<f32>(subgroupBroadcast(k0.x, 6u)), b0, c[6]);
            c[7] = fma(vec4<f32>(subgroupBroadcast(k0.x, 7u)), b0, c[7]);
            c[8] = fma(vec4<f32>(subgroupBroadcast(k1.x, 0u)), b0, c[8]);
            c[9] = fma(vec4<f32>(subgroupBroadcast(k1.x, 1u)), b0, c[9]);
            c[10] = fma(vec4<f32>(subgroupBroadcast(k1.x, 2u)), b0, c[10]);
            c[11] = fma(vec4<f32>(subgroupBroadcast(k1.x, 3u)), b0, c[11]);
            c[12] = fma(vec4<f32>(subgroupBroadcast(k1.x, 4u)), b0, c[12]);
            c[13] = fma(vec4<f32>(subgroupBroadcast(k1.x, 5u)), b0, c[13]);
            c[14] = fma(vec4<f32>(subgroupBroadcast(k1.x, 6u)), b0, c[14]);
            c[15] = fma(vec4<f32>(subgroupBroadcast(k1.x, 7u)), b0, c[15]);
            c[0] = fma(vec4<f32>(subgroupBroadcast(k0.y, 0u)), b1, c[0]);
            c[1] = fma(vec4<f32>(subgroupBroadcast(k0.y, 1u)), b1, c[1]);
            c[2] = fma(vec4<f32>(subgroupBroadcast(k0.y, 2u)), b1, c[2]);
            c[3] = fma(vec4<f32>(subgroupBroadcast(k0.y, 3u)), b1, c[3]);
            c[4] = fma(vec4<f32>(subgroupBroadcast(k0.y, 4u)), b1, c[4]);
            c[5] = fma(vec4<f32>(subgroupBroadcast(k0.y, 5u)), b1, c[5]);
            c[6] = fma(vec4<f32>(subgroupBroadcast(k0.y, 6u)), b1, c[6]);
            c[7] = fma(vec4<f32>(subgroupBroadcast(k0.y, 7u)), b1, c[7]);
            c[8] = fma(vec4<f32>(subgroupBroadcast(k1.y, 0u)), b1, c[8]);
            c[9] = fma(vec4<f32>(subgroupBroadcast(k1.y, 1u)), b1, c[9]);
            c[10] = fma(vec4<f32>(subgroupBroadcast(k1.y, 2u)), b1, c[10]);
            c[11] = fma(vec4<f32>(subgroupBroadcast(k1.y, 3u)), b1, c[11]);
            c[12] = fma(vec4<f32>(subgroupBroadcast(k1.y, 4u)), b1, c[12]);
            c[13] = fma(vec4<f32>(subgroupBroadcast(k1.y, 5u)), b1, c[13]);
            c[14] = fma(vec4<f32>(subgroupBroadcast(k1.y, 6u)), b1, c[14]);
            c[15] = fma(vec4<f32>(subgroupBroadcast(k1.y, 7u)), b1, c[15]);
            c[0] = fma(vec4<f32>(subgroupBroadcast(k0.z, 0u)), b2, c[0]);
            c[1] = fma(vec4<f32>(subgroupBroadcast(k0.z, 1u)), b2, c[1]);
            c[2] = fma(vec4<f32>(subgroupBroadcast(k0.z, 2u)), b2, c[2]);
            c[3] = fma(vec4<f32>(subgroupBroadcast(k0.z, 3u)), b2, c[3]);
            c[4] = fma(vec4<f32>(subgroupBroadcast(k0.z, 4u)), b2, c[4]);
            c[5] = fma(vec4<f32>(subgroupBroadcast(k0.z, 5u)), b2, c[5]);
            c[6] = fma(vec4<f32>(subgroupBroadcast(k0.z, 6u)), b2, c[6]);
            c[7] = fma(vec4<f32>(subgroupBroadcast(k0.z, 7u)), b2, c[7]);
            c[8] = fma(vec4<f32>(subgroupBroadcast(k1.z, 0u)), b2, c[8]);
            c[9] = fma(vec4<f32>(subgroupBroadcast(k1.z, 1u)), b2, c[9]);
            c[10] = fma(vec4<f32>(subgroupBroadcast(k1.z, 2u)), b2, c[10]);
            c[11] = fma(vec4<f32>(subgroupBroadcast(k1.z, 3u)), b2, c[11]);
            c[12] = fma(vec4<f32>(subgroupBroadcast(k1.z, 4u)), b2, c[12]);
            c[13] = fma(vec4<f32>(subgroupBroadcast(k1.z, 5u)), b2, c[13]);
            c[14] = fma(vec4<f32>(subgroupBroadcast(k1.z, 6u)), b2, c[14]);
            c[15] = fma(vec4<f32>(subgroupBroadcast(k1.z, 7u)), b2, c[15]);
            c[0] = fma(vec4<f32>(subgroupBroadcast(k0.w, 0u)), b3, c[0]);
            c[1] = fma(vec4<f32>(subgroupBroadcast(k0.w, 1u)), b3, c[1]);
            c[2] = fma(vec4<f32>(subgroupBroadcast(k0.w, 2u)), b3, c[2]);
            c[3] = fma(vec4<f32>(subgroupBroadcast(k0.w, 3u)), b3, c[3]);
            c[4] = fma(vec4<f32>(subgroupBroadcast(k0.w, 4u)), b3, c[4]);
            c[5] = fma(vec4<f32>(subgroupBroadcast(k0.w, 5u)), b3, c[5]);
            c[6] = fma(vec4<f32>(subgroupBroadcast(k0.w, 6u)), b3, c[6]);
            c[7] = fma(vec4<f32>(subgroupBroadcast(k0.w, 7u)), b3, c[7]);
            c[8] = fma(vec4<f32>(subgroupBroadcast(k1.w, 0u)), b3, c[8]);
            c[9] = fma(vec4<f32>(subgroupBroadcast(k1.w, 1u)), b3, c[9]);
            c[10] = fma(vec4<f32>(subgroupBroadcast(k1.w, 2u)), b3, c[10]);
            c[11] = fma(vec4<f32>(subgroupBroadcast(k1.w, 3u)), b3, c[11]);
            c[12] = fma(vec4<f32>(subgroupBroadcast(k1.w, 4u)), b3, c[12]);
            c[13] = fma(vec4<f32>(subgroupBroadcast(k1.w, 5u)), b3, c[13]);
            c[14] = fma(vec4<f32>(subgroupBroadcast(k1.w, 6u)), b3, c[14]);
            c[15] = fma(vec4<f32>(subgroupBroadcast(k1.w, 7u)), b3, c[15]);
        }
        // A copy for what indexes it by a variable; the tile itself stays in registers.
        dots[0] = c[0];
        dots[1] = c[1];
        dots[2] = c[2];
        dots[3] = c[3];
        dots[4] = c[4];
        dots[5] = c[5];
        dots[6] = c[6];
        dots[7] = c[7];
        dots[8] = c[8];
        dots[9] = c[9];
        dots[10] = c[10];
        dots[11] = c[11];
        dots[12] = c[12];
        dots[13] = c[13];
        dots[14] = c[14];
        dots[15] = c[15];
        let live = min(KEYS, end - first);
        for (var r = 0u; r <= live; r++) {
            // Classes that end before this key, those without keys among them. After the last tile all do.
            while class_ < past && starts[class_ + 1u] <= first + r {
                for (var s = 0u; s < BETAS; s++) {
                    store(sums[s], query, class_, s);
                    sums[s] = vec4<f32>();
                }
                class_++;
            }
            if r < live {
                for (var s = 0u; s < BETAS; s++) {
                    sums[s] += exp(vec4<f32>(betas[s]) * (dots[r] - 1.0));
                }
            }
        }
        first += KEYS;
        if first >= end {
            break;
        }
    }
}
