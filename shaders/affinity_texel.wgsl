// The cache term of Tip-Adapter (see affinity.wgsl), from queries and keys in textures, for drivers that run on the CPU in
// subgroups of eight.
//
// As in gemm_texel.wgsl the eight invocations of a workgroup fetch two keys' texels each and hand them to all by broadcasts;
// each has four queries of its own. A tile is 16 keys × 32 queries. A workgroup has a block of whole classes, as many as
// fill a tile or one that fills several, so that sums never leave it; after each tile the exponentials are added up key by
// key, and where a class ends its sums are stored.
//
// Open constants: those of the imports. The subgroup size must be 8.
//# import affinity_cache, quads

@group(0) @binding(1) var f: texture_2d<f32>;
@group(0) @binding(2) var g: texture_2d<f32>;

const_assert PER == 4u;

@compute @workgroup_size(QUERIES / PER)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    var class_ = blocks[2u * wid.y];
    let past = min(blocks[2u * wid.y + 1u], p.classes);
    let query = wid.x * QUERIES + lane * PER;
    let q = four_from(query, p.queries);
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
            let from_g = mat2x4<f32>(textureLoad(g, vec2<u32>(i, rows.x), 0), textureLoad(g, vec2<u32>(i, rows.y), 0));
            // A column of the queries to a column.
            let from_f = transpose(mat4x4<f32>(
                textureLoad(f, vec2<u32>(i, q.x), 0), textureLoad(f, vec2<u32>(i, q.y), 0),
                textureLoad(f, vec2<u32>(i, q.z), 0), textureLoad(f, vec2<u32>(i, q.w), 0),
            ));
            //# unroll
            for (var x = 0u; x < 4u; x++) {
                //# unroll
                for (var r = 0u; r < KEYS; r++) {
                    c[r] = fma(vec4<f32>(subgroupBroadcast(from_g[r / 8u][x], r % 8u)), from_f[x], c[r]);
                }
            }
        }
        // A copy for what indexes it by a variable; the tile itself stays in registers.
        //# unroll
        for (var r = 0u; r < KEYS; r++) {
            dots[r] = c[r];
        }
        let live = min(KEYS, end - first);
        for (var r = 0u; r <= live; r++) {
            // Classes that end before this key, those without keys among them. After the last tile all do.
            while class_ < past && starts[class_ + 1u] <= first + r {
                for (var s = 0u; s < BETAS; s++) {
                    store_four(sums[s], query, class_, s);
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
