// The cache term of Tip-Adapter (see affinity.wgsl), for drivers that run on the CPU in subgroups of eight.
//
// As in gemm_subgroup.wgsl the eight invocations of a workgroup load another key's word each and hand it to all by a
// broadcast. A tile is 16 keys × 12 queries per invocation. A workgroup has a block of whole classes, as many as fill a
// tile or one that fills several, so that sums never leave it; after each tile the exponentials are added up key by key,
// and where a class ends its sums are stored.
//
// Open constants: those of the imports. The subgroup size must be 8.
//# import affinity_queries

@compute @workgroup_size(QUERIES / PER)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    var class_ = blocks[2u * wid.y];
    let past = min(blocks[2u * wid.y + 1u], p.classes);
    let query = wid.x * QUERIES + lane * PER;
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
        var c0: array<vec4<f32>, KEYS>;
        var c1: array<vec4<f32>, KEYS>;
        var c2: array<vec4<f32>, KEYS>;
        let rows = min(vec2<u32>(first + lane) + vec2<u32>(0u, 8u), vec2<u32>(keys - 1u)) * p.width;
        for (var d = 0u; d < p.width; d++) {
            let v0 = load(q0 + vec4<u32>(d));
            let v1 = load(q1 + vec4<u32>(d));
            let v2 = load(q2 + vec4<u32>(d));
            let words = vec2<f32>(g[rows.x + d], g[rows.y + d]);
            //# unroll
            for (var r = 0u; r < KEYS; r++) {
                let key = vec4<f32>(subgroupBroadcast(words[r / 8u], r % 8u));
                c0[r] = fma(key, v0, c0[r]);
                c1[r] = fma(key, v1, c1[r]);
                c2[r] = fma(key, v2, c2[r]);
            }
        }
        // A copy for what indexes it by a variable; the tile itself stays in registers.
        //# unroll
        for (var r = 0u; r < KEYS; r++) {
            dots[3u * r] = c0[r];
            dots[3u * r + 1u] = c1[r];
            dots[3u * r + 2u] = c2[r];
        }
        let live = min(KEYS, end - first);
        for (var r = 0u; r <= live; r++) {
            // Classes that end before this key, those without keys among them. After the last tile all do.
            while class_ < past && starts[class_ + 1u] <= first + r {
                for (var s = 0u; s < BETAS; s++) {
                    store_four(sums[3u * s], query, class_, s);
                    store_four(sums[3u * s + 1u], query + 4u, class_, s);
                    store_four(sums[3u * s + 2u], query + 8u, class_, s);
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
