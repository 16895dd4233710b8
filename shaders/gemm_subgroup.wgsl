// C[m,n] = act(alpha · op(A)·op(B) + bias) + residual, f32, for drivers that run on the CPU in subgroups of eight.
//
// There a load in a loop costs a branch per lane, even where all lanes want the same word, and arithmetic next to
// nothing. So no word of A is loaded twice: each of the eight invocations of a workgroup, which are one subgroup, loads
// another row's word, and hands it to all by a broadcast. Each invocation keeps 32 rows × 8 columns of C, for 12 loads
// in 256 products where gemm_rows.wgsl has 28 in 192.
// Edges: addresses are clamped to the last row or column, and what they compute is not stored.
//
// Open constants: TILE_M, TILE_N, PER_M, PER_N, and those of the imports. The subgroup size must be 8.
//# import gemm_columns

// Four rows to a lane, two vectors of columns.
const_assert PER_M == 32u && PER_N == 8u;

@compute @workgroup_size(TILE_N / PER_N)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let row0 = wid.y * TILE_M;
    let col0 = wid.x * TILE_N + lane * PER_N;
    // Strides of A and B along k, and between rows of A and columns of B.
    let step_a = select(1u, p.m, TRANS_A == 1u);
    let step_b = select(stride_of(p.n), 1u, TRANS_B == 1u);
    let unit_a = select(p.k, 1u, TRANS_A == 1u);
    let unit_b = select(1u, stride_of(p.k), TRANS_B == 1u);
    let rows = min(vec4<u32>(row0 + lane) + vec4<u32>(0u, 8u, 16u, 24u), vec4<u32>(p.m - 1u)) * unit_a;
    let b0 = columns(col0, unit_b);
    let b1 = columns(col0 + 4u, unit_b);
    var c0: array<vec4<f32>, PER_M>;
    var c1: array<vec4<f32>, PER_M>;
    for (var kk = 0u; kk < p.k; kk++) {
        let kb = vec4<u32>(kk * step_b);
        let v0 = load_b(b0 + kb, kk);
        let v1 = load_b(b1 + kb, kk);
        let ka = kk * step_a;
        let words = vec4<f32>(a[rows.x + ka], a[rows.y + ka], a[rows.z + ka], a[rows.w + ka]);
        //# unroll
        for (var r = 0u; r < PER_M; r++) {
            let va = vec4<f32>(subgroupBroadcast(words[r / 8u], r % 8u));
            c0[r] = fma(va, v0, c0[r]);
            c1[r] = fma(va, v1, c1[r]);
        }
    }
    // Factor and bias while the tile is in registers; the residual on the way out, unless an activation comes before it.
    let factor0 = factors_of(four_from(col0, p.n));
    let factor1 = factors_of(four_from(col0 + 4u, p.n));
    let bias0 = biases_of(four_from(col0, p.n));
    let bias1 = biases_of(four_from(col0 + 4u, p.n));
    //# unroll
    for (var r = 0u; r < PER_M; r++) {
        store(row0 + r, col0, fma(factor0, c0[r], bias0));
        store(row0 + r, col0 + 4u, fma(factor1, c1[r], bias1));
    }
    if ACT == 0u {
        return;
    }
    // An activation in a pass of its own over what this invocation just stored: written out with the rows it would take
    // drivers seconds to compile.
    for (var row = row0; row < min(row0 + PER_M, p.m); row++) {
        for (var col = col0; col < min(col0 + PER_N, p.n); col++) {
            let i = row * p.n + col;
            c[i] = with_residual(activate(c[i]), i);
        }
    }
}

fn store(row: u32, col: u32, v: vec4<f32>) {
    if row >= p.m {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if col + j < p.n {
            let i = row * p.n + col + j;
            if ACT == 0u {
                c[i] = with_residual(v[j], i);
            } else {
                c[i] = v[j];
            }
        }
    }
}
