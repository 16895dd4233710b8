// C[m,n] = act(alpha · A·op(B) + bias) + residual, f32, from operands in textures, for drivers that run on the CPU in
// subgroups of eight.
//
// There a buffer's word costs a branch per lane, but a texel of four words is fetched without any, six to eight times as
// fast. A is staged as texels along k ([m, k/4], texels.wgsl); B is a texture of [n, k/4] or of [k, n/4]. Frozen weights
// are kept as textures. Each of the eight invocations of a workgroup, which are one subgroup, fetches two rows of A and
// hands them to all by broadcasts; it keeps 16 rows × 4 columns of C.
// Edges: coordinates are clamped to the last row or column, and what they compute is not stored. Texels past k hold zeros
// in A, so what B has there does not count.
//
// Open constants: TILE_M, TILE_N, PER_M, PER_N, TRANS_B (B is [n, k/4]), and those of the imports. The subgroup size must be 8.
//# import gemm, quads

@group(0) @binding(1) var a: texture_2d<f32>;
@group(0) @binding(2) var b: texture_2d<f32>;

// Two rows to a lane, a vector of columns.
const_assert PER_M == 16u && PER_N == 4u;

@compute @workgroup_size(TILE_N / PER_N)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let row0 = wid.y * TILE_M;
    let col0 = wid.x * TILE_N + lane * PER_N;
    let last = p.m - 1u;
    let r0 = min(row0 + lane, last);
    let r1 = min(row0 + 8u + lane, last);
    // The four columns as rows of B's texture, or as one texel of its rows.
    let cols = four_from(col0, p.n);
    let texel = cols.x / 4u;
    var s: array<vec4<f32>, PER_M>;
    let steps = (p.k + 3u) / 4u;
    for (var i = 0u; i < steps; i++) {
        let from_a = mat2x4<f32>(textureLoad(a, vec2<u32>(i, r0), 0), textureLoad(a, vec2<u32>(i, r1), 0));
        // A step of k to a column.
        var from_b: mat4x4<f32>;
        if TRANS_B == 1u {
            from_b = transpose(mat4x4<f32>(
                textureLoad(b, vec2<u32>(i, cols.x), 0), textureLoad(b, vec2<u32>(i, cols.y), 0),
                textureLoad(b, vec2<u32>(i, cols.z), 0), textureLoad(b, vec2<u32>(i, cols.w), 0),
            ));
        } else {
            let kk = four_from(4u * i, p.k);
            from_b = mat4x4<f32>(
                textureLoad(b, vec2<u32>(texel, kk.x), 0), textureLoad(b, vec2<u32>(texel, kk.y), 0),
                textureLoad(b, vec2<u32>(texel, kk.z), 0), textureLoad(b, vec2<u32>(texel, kk.w), 0),
            );
        }
        //# unroll
        for (var x = 0u; x < 4u; x++) {
            //# unroll
            for (var r = 0u; r < PER_M; r++) {
                s[r] = fma(vec4<f32>(subgroupBroadcast(from_a[r / 8u][x], r % 8u)), from_b[x], s[r]);
            }
        }
    }
    let shift = biases_of(cols);
    //# unroll
    for (var r = 0u; r < PER_M; r++) {
        store(row0 + r, col0, fma(vec4<f32>(p.alpha), s[r], shift));
    }
}

fn store(row: u32, col: u32, sum: vec4<f32>) {
    if row >= p.m {
        return;
    }
    var v = vec4<f32>(activate(sum.x), activate(sum.y), activate(sum.z), activate(sum.w));
    let at = (p.first + row) * p.n;
    for (var j = 0u; j < 4u; j++) {
        if col + j < p.n {
            c[at + col + j] = with_residual(v[j], at + col + j);
        }
    }
}
