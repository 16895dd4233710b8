// The cache term of Tip-Adapter (see affinity.wgsl), for drivers that run on the CPU.
//
// As in gemm_rows.wgsl each invocation keeps a register tile: KEYS keys of one class × 12 queries, its 8 neighbours
// taking the next queries, so that a key's address is uniform across the workgroup. The class's keys go by in tiles;
// after each the exponentials are added to the sums of its queries, so that the affinity never leaves registers.
//
// Open constants: those of the imports; KEYS is as many as a class has, up to 16.
//# import affinity_queries

@compute @workgroup_size(QUERIES / PER)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let class_ = wid.y;
    let query = wid.x * QUERIES + lid * PER;
    let q0 = rows_of(query);
    let q1 = rows_of(query + 4u);
    let q2 = rows_of(query + 8u);
    let end = min(starts[class_ + 1u], arrayLength(&g) / p.width);
    var s0: array<vec4<f32>, BETAS>;
    var s1: array<vec4<f32>, BETAS>;
    var s2: array<vec4<f32>, BETAS>;
    for (var first = starts[class_]; first < end; first += KEYS) {
        var at: array<u32, KEYS>;
        for (var r = 0u; r < KEYS; r++) {
            at[r] = min(first + r, end - 1u) * p.width;
        }
        var c0: array<vec4<f32>, KEYS>;
        var c1: array<vec4<f32>, KEYS>;
        var c2: array<vec4<f32>, KEYS>;
        for (var d = 0u; d < p.width; d++) {
            let v0 = load(q0 + vec4<u32>(d));
            let v1 = load(q1 + vec4<u32>(d));
            let v2 = load(q2 + vec4<u32>(d));
            for (var r = 0u; r < KEYS; r++) {
                let key = vec4<f32>(g[at[r] + d]);
                c0[r] = fma(key, v0, c0[r]);
                c1[r] = fma(key, v1, c1[r]);
                c2[r] = fma(key, v2, c2[r]);
            }
        }
        // Past the class's end the last key was read again; it counts once.
        let live = min(KEYS, end - first);
        for (var s = 0u; s < BETAS; s++) {
            let beta = vec4<f32>(betas[s]);
            for (var r = 0u; r < live; r++) {
                s0[s] += exp(beta * (c0[r] - 1.0));
                s1[s] += exp(beta * (c1[r] - 1.0));
                s2[s] += exp(beta * (c2[r] - 1.0));
            }
        }
    }
    for (var s = 0u; s < BETAS; s++) {
        store_four(s0[s], query, class_, s);
        store_four(s1[s], query + 4u, class_, s);
        store_four(s2[s], query + 8u, class_, s);
    }
}
