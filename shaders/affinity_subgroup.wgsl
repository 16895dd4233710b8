// The cache term of Tip-Adapter (see affinity.wgsl), for drivers that run on the CPU in subgroups of eight.
//
// As in gemm_subgroup.wgsl the eight invocations of a workgroup load another key's word each and hand it to all by a
// broadcast. A tile is 16 keys × 12 queries per invocation. A workgroup has a block of whole classes, as many as fill a
// tile or one that fills several, so that sums never leave it; after each tile the exponentials are added up key by key,
// and where a class ends its sums are stored.
//
// Open constants: BETAS, BASE. The subgroup size must be 8.

struct Params {
    queries: u32,
    classes: u32,
    width: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> f: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read> starts: array<u32>;
@group(0) @binding(4) var<storage, read> betas: array<f32>;
@group(0) @binding(5) var<storage, read> base: array<f32>;
@group(0) @binding(6) var<storage, read> blocks: array<u32>; // [blocks, 2]: classes from … to before …
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

const KEYS: u32 = 16u;
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    var class_ = blocks[2u * wid.y];
    let past = min(blocks[2u * wid.y + 1u], p.classes);
    let query = (wid.x * 8u + lane) * QUERIES;
    let q0 = rows_of(query);
    let q1 = rows_of(query + 4u);
    let q2 = rows_of(query + 8u);
    let keys = arrayLength(&g) / p.width;
    let end = min(starts[past], keys);
    var sums: array<vec4<f32>, 3 * BETAS>;
    var dots: array<vec4<f32>, 3 * KEYS>;
    var first = min(starts[class_], keys);
    // Once at least, for a block of classes without keys: their sums of nothing are stored too.
    loop {
        var c0_0 = vec4<f32>(); var c1_0 = vec4<f32>(); var c2_0 = vec4<f32>();
        var c0_1 = vec4<f32>(); var c1_1 = vec4<f32>(); var c2_1 = vec4<f32>();
        var c0_2 = vec4<f32>(); var c1_2 = vec4<f32>(); var c2_2 = vec4<f32>();
        var c0_3 = vec4<f32>(); var c1_3 = vec4<f32>(); var c2_3 = vec4<f32>();
        var c0_4 = vec4<f32>(); var c1_4 = vec4<f32>(); var c2_4 = vec4<f32>();
        var c0_5 = vec4<f32>(); var c1_5 = vec4<f32>(); var c2_5 = vec4<f32>();
        var c0_6 = vec4<f32>(); var c1_6 = vec4<f32>(); var c2_6 = vec4<f32>();
        var c0_7 = vec4<f32>(); var c1_7 = vec4<f32>(); var c2_7 = vec4<f32>();
        var c0_8 = vec4<f32>(); var c1_8 = vec4<f32>(); var c2_8 = vec4<f32>();
        var c0_9 = vec4<f32>(); var c1_9 = vec4<f32>(); var c2_9 = vec4<f32>();
        var c0_10 = vec4<f32>(); var c1_10 = vec4<f32>(); var c2_10 = vec4<f32>();
        var c0_11 = vec4<f32>(); var c1_11 = vec4<f32>(); var c2_11 = vec4<f32>();
        var c0_12 = vec4<f32>(); var c1_12 = vec4<f32>(); var c2_12 = vec4<f32>();
        var c0_13 = vec4<f32>(); var c1_13 = vec4<f32>(); var c2_13 = vec4<f32>();
        var c0_14 = vec4<f32>(); var c1_14 = vec4<f32>(); var c2_14 = vec4<f32>();
        var c0_15 = vec4<f32>(); var c1_15 = vec4<f32>(); var c2_15 = vec4<f32>();
        let rows = min(vec2<u32>(first + lane) + vec2<u32>(0u, 8u), vec2<u32>(keys - 1u)) * p.width;
        for (var d = 0u; d < p.width; d++) {
            let v0 = load(q0 + vec4<u32>(d));
            let v1 = load(q1 + vec4<u32>(d));
            let v2 = load(q2 + vec4<u32>(d));
            let k0 = g[rows.x + d];
            let k1 = g[rows.y + d];
            var s: vec4<f32>;
            s = vec4<f32>(subgroupBroadcast(k0, 0u));
            c0_0 = fma(s, v0, c0_0);
            c1_0 = fma(s, v1, c1_0);
            c2_0 = fma(s, v2, c2_0);
            s = vec4<f32>(subgroupBroadcast(k0, 1u));
            c0_1 = fma(s, v0, c0_1);
            c1_1 = fma(s, v1, c1_1);
            c2_1 = fma(s, v2, c2_1);
            s = vec4<f32>(subgroupBroadcast(k0, 2u));
            c0_2 = fma(s, v0, c0_2);
            c1_2 = fma(s, v1, c1_2);
            c2_2 = fma(s, v2, c2_2);
            s = vec4<f32>(subgroupBroadcast(k0, 3u));
            c0_3 = fma(s, v0, c0_3);
            c1_3 = fma(s, v1, c1_3);
            c2_3 = fma(s, v2, c2_3);
            s = vec4<f32>(subgroupBroadcast(k0, 4u));
            c0_4 = fma(s, v0, c0_4);
            c1_4 = fma(s, v1, c1_4);
            c2_4 = fma(s, v2, c2_4);
            s = vec4<f32>(subgroupBroadcast(k0, 5u));
            c0_5 = fma(s, v0, c0_5);
            c1_5 = fma(s, v1, c1_5);
            c2_5 = fma(s, v2, c2_5);
            s = vec4<f32>(subgroupBroadcast(k0, 6u));
            c0_6 = fma(s, v0, c0_6);
            c1_6 = fma(s, v1, c1_6);
            c2_6 = fma(s, v2, c2_6);
            s = vec4<f32>(subgroupBroadcast(k0, 7u));
            c0_7 = fma(s, v0, c0_7);
            c1_7 = fma(s, v1, c1_7);
            c2_7 = fma(s, v2, c2_7);
            s = vec4<f32>(subgroupBroadcast(k1, 0u));
            c0_8 = fma(s, v0, c0_8);
            c1_8 = fma(s, v1, c1_8);
            c2_8 = fma(s, v2, c2_8);
            s = vec4<f32>(subgroupBroadcast(k1, 1u));
            c0_9 = fma(s, v0, c0_9);
            c1_9 = fma(s, v1, c1_9);
            c2_9 = fma(s, v2, c2_9);
            s = vec4<f32>(subgroupBroadcast(k1, 2u));
            c0_10 = fma(s, v0, c0_10);
            c1_10 = fma(s, v1, c1_10);
            c2_10 = fma(s, v2, c2_10);
            s = vec4<f32>(subgroupBroadcast(k1, 3u));
            c0_11 = fma(s, v0, c0_11);
            c1_11 = fma(s, v1, c1_11);
            c2_11 = fma(s, v2, c2_11);
            s = vec4<f32>(subgroupBroadcast(k1, 4u));
            c0_12 = fma(s, v0, c0_12);
            c1_12 = fma(s, v1, c1_12);
            c2_12 = fma(s, v2, c2_12);
            s = vec4<f32>(subgroupBroadcast(k1, 5u));
            c0_13 = fma(s, v0, c0_13);
            c1_13 = fma(s, v1, c1_13);
            c2_13 = fma(s, v2, c2_13);
            s = vec4<f32>(subgroupBroadcast(k1, 6u));
            c0_14 = fma(s, v0, c0_14);
            c1_14 = fma(s, v1, c1_14);
            c2_14 = fma(s, v2, c2_14);
            s = vec4<f32>(subgroupBroadcast(k1, 7u));
            c0_15 = fma(s, v0, c0_15);
            c1_15 = fma(s, v1, c1_15);
            c2_15 = fma(s, v2, c2_15);
        }
        // A copy for what indexes it by a variable; the tile itself stays in registers.
        dots[0] = c0_0; dots[1] = c1_0; dots[2] = c2_0;
        dots[3] = c0_1; dots[4] = c1_1; dots[5] = c2_1;
        dots[6] = c0_2; dots[7] = c1_2; dots[8] = c2_2;
        dots[9] = c0_3; dots[10] = c1_3; dots[11] = c2_3;
        dots[12] = c0_4; dots[13] = c1_4; dots[14] = c2_4;
        dots[15] = c0_5; dots[16] = c1_5; dots[17] = c2_5;
        dots[18] = c0_6; dots[19] = c1_6; dots[20] = c2_6;
        dots[21] = c0_7; dots[22] = c1_7; dots[23] = c2_7;
        dots[24] = c0_8; dots[25] = c1_8; dots[26] = c2_8;
        dots[27] = c0_9; dots[28] = c1_9; dots[29] = c2_9;
        dots[30] = c0_10; dots[31] = c1_10; dots[32] = c2_10;
        dots[33] = c0_11; dots[34] = c1_11; dots[35] = c2_11;
        dots[36] = c0_12; dots[37] = c1_12; dots[38] = c2_12;
        dots[39] = c0_13; dots[40] = c1_13; dots[41] = c2_13;
        dots[42] = c0_14; dots[43] = c1_14; dots[44] = c2_14;
        dots[45] = c0_15; dots[46] = c1_15; dots[47] = c2_15;
        let live = min(KEYS, end - first);
        for (var r = 0u; r <= live; r++) {
            // Classes that end before this key, those without keys among them. After the last tile all do.
            while class_ < past && starts[class_ + 1u] <= first + r {
                for (var s = 0u; s < BETAS; s++) {
                    store(sums[3u * s], query, class_, s);
                    store(sums[3u * s + 1u], query + 4u, class_, s);
                    store(sums[3u * s + 2u], query + 8u, class_, s);
                    sums[3u * s] = vec4<f32>();
                    sums[3u * s + 1u] = vec4<f32>();
                    sums[3u * s + 2u] = vec4<f32>();
                }
                class_++;
            }
            if r < live {
                for (var s = 0u; s < BETAS; s++) {
                    let beta = vec4<f32>(betas[s]);
                    sums[3u * s] += exp(beta * (dots[3u * r] - 1.0));
                    sums[3u * s + 1u] += exp(beta * (dots[3u * r + 1u] - 1.0));
                    sums[3u * s + 2u] += exp(beta * (dots[3u * r + 2u] - 1.0));
                }
            }
        }
        first += KEYS;
        if first >= end {
            break;
        }
    }
}
