// The cache term of Tip-Adapter without the [queries, keys] affinity matrix:
// y[s,b,c] = scale·Σ_{j in class c} exp(−β_s·(1 − f_b·g_j)), plus base[b,c] when BASE is 1,
// for keys sorted by class, starts[c]…starts[c+1] being class c's. A class without keys gets zero. For GPUs.
//
// A tile is QUERIES × KEYS, staged through workgroup memory 32 columns at a time, 4×4 products per invocation. A
// workgroup has a block of whole classes, as many as fill a tile or one that fills several, so that sums never leave it.
// After each tile an invocation adds up the exponentials of one query, key by key, and where a class ends stores its sums.
//
// Open constants: those of the imports.
//# import affinity_cache

@group(0) @binding(1) var<storage, read> f: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;

// What this invocation's products are, below, rests on it.
const_assert QUERIES == 64u && KEYS == 16u && PER == 1u;
const DEPTH: u32 = 32u;
// One more than needed, so that neighbours fall into different banks.
const STRIDE_F: u32 = QUERIES + 1u;
const STRIDE_G: u32 = KEYS + 1u;

var<workgroup> tile_f: array<f32, DEPTH * STRIDE_F>;
var<workgroup> tile_g: array<f32, DEPTH * STRIDE_G>;
var<workgroup> dots: array<f32, QUERIES * STRIDE_G>;

@compute @workgroup_size(QUERIES / PER)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    var class_ = blocks[2u * wid.y];
    let past = min(blocks[2u * wid.y + 1u], p.classes);
    let keys = arrayLength(&g) / p.width;
    let end = min(starts[past], keys);
    let query0 = wid.x * QUERIES;
    let query = query0 + lid;
    // This invocation's products: queries `down` and every 16th from there, four keys side by side.
    let down = lid / 4u;
    let across = lid % 4u * 4u;
    var sums: array<f32, BETAS>;
    var first = min(starts[class_], keys);
    // Once at least, for a block of classes without keys: their sums of nothing are stored too.
    loop {
        var d: array<vec4<f32>, 4>;
        for (var from_col = 0u; from_col < p.width; from_col += DEPTH) {
            for (var e = lid; e < DEPTH * QUERIES; e += QUERIES) {
                let col = from_col + e % DEPTH;
                let row = query0 + e / DEPTH;
                var v = 0.0;
                if row < p.queries && col < p.width {
                    v = f[row * p.width + col];
                }
                tile_f[(e % DEPTH) * STRIDE_F + e / DEPTH] = v;
            }
            for (var e = lid; e < DEPTH * KEYS; e += QUERIES) {
                let col = from_col + e % DEPTH;
                let row = first + e / DEPTH;
                var v = 0.0;
                if row < end && col < p.width {
                    v = g[row * p.width + col];
                }
                tile_g[(e % DEPTH) * STRIDE_G + e / DEPTH] = v;
            }
            workgroupBarrier();
            for (var kk = 0u; kk < DEPTH; kk++) {
                let at = kk * STRIDE_G + across;
                let v = vec4<f32>(tile_g[at], tile_g[at + 1u], tile_g[at + 2u], tile_g[at + 3u]);
                let from_f = kk * STRIDE_F + down;
                d[0] = fma(vec4<f32>(tile_f[from_f]), v, d[0]);
                d[1] = fma(vec4<f32>(tile_f[from_f + 16u]), v, d[1]);
                d[2] = fma(vec4<f32>(tile_f[from_f + 32u]), v, d[2]);
                d[3] = fma(vec4<f32>(tile_f[from_f + 48u]), v, d[3]);
            }
            workgroupBarrier();
        }
        for (var i = 0u; i < 4u; i++) {
            for (var j = 0u; j < 4u; j++) {
                dots[(down + 16u * i) * STRIDE_G + across + j] = d[i][j];
            }
        }
        workgroupBarrier();
        let live = min(KEYS, end - first);
        for (var r = 0u; r <= live; r++) {
            // Classes that end before this key, those without keys among them. After the last tile all do.
            while class_ < past && starts[class_ + 1u] <= first + r {
                for (var s = 0u; s < BETAS; s++) {
                    store(sums[s], query, class_, s);
                    sums[s] = 0.0;
                }
                class_++;
            }
            if r < live {
                let near = dots[lid * STRIDE_G + r] - 1.0;
                for (var s = 0u; s < BETAS; s++) {
                    sums[s] += exp(betas[s] * near);
                }
            }
        }
        first += KEYS;
        if first >= end {
            break;
        }
        // Nobody may stage the next tile before all have read this one's products.
        workgroupBarrier();
    }
}
