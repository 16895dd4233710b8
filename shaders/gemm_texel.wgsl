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
// Open constants: TILE_M, TILE_N, PER_M, PER_N, TRANS_B (B is [n, k/4]), BYTE_B (B is whole numbers of 8 bits, times their rows'
// scales, which are one row of texels), and those of the imports. The subgroup size must be 8.
//# import gemm, quads

@group(0) @binding(1) var a: texture_2d<f32>;
//# if BYTE_B
@group(0) @binding(2) var b: texture_2d<i32>;
@group(0) @binding(6) var scales: texture_2d<f32>;

fn scale_of(row: u32) -> f32 {
    return textureLoad(scales, vec2<u32>(row / 4u, 0u), 0)[row % 4u];
}
//# else
@group(0) @binding(2) var b: texture_2d<f32>;
//# end

fn texel_b(x: u32, y: u32) -> vec4<f32> {
    return vec4<f32>(textureLoad(b, vec2<u32>(x, y), 0));
}

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
                texel_b(i, cols.x), texel_b(i, cols.y), texel_b(i, cols.z), texel_b(i, cols.w),
            ));
        } else {
            let kk = four_from(4u * i, p.k);
            from_b = mat4x4<f32>(
                texel_b(texel, kk.x), texel_b(texel, kk.y), texel_b(texel, kk.z), texel_b(texel, kk.w),
            );
            //# if BYTE_B
            let by = textureLoad(scales, vec2<u32>(i, 0u), 0);
            from_b = mat4x4<f32>(from_b[0] * by.x, from_b[1] * by.y, from_b[2] * by.z, from_b[3] * by.w);
            //# end
        }
        //# unroll
        for (var x = 0u; x < 4u; x++) {
            //# unroll
            for (var r = 0u; r < PER_M; r++) {
                s[r] = fma(vec4<f32>(subgroupBroadcast(from_a[r / 8u][x], r % 8u)), from_b[x], s[r]);
            }
        }
    }
    let factor = factors_of(cols);
    let shift = biases_of(cols);
    //# unroll
    for (var r = 0u; r < PER_M; r++) {
        store(row0 + r, col0, fma(factor, s[r], shift));
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
