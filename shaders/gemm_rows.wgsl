// C[m,n] = act(alpha · op(A)·op(B) + bias) + residual, f32, for drivers that run on the CPU.
//
// Each invocation keeps PER_M rows (16) × PER_N columns (12) of C; the 8 invocations of a workgroup are neighbours in n.
// That is more than a CPU has registers for, but there a sum that lives on the stack costs little, and an indexed load a
// lot: some drivers make one in a loop a branch per lane, even where the address is the same for all. So the tile
// is as large as it can be before its overhang costs more, 28 loads for 192 products. The loop over its rows has
// no more than 16 turns of little code, so that drivers unroll it.
// No workgroup memory: on such drivers it is ordinary memory, and barriers are expensive.
// Edges: addresses are clamped to the last row or column, and what they compute is not stored.
//
// Open constants: TILE_M, TILE_N, PER_M, PER_N, and those of the imports.
//# import gemm_columns

// Three vectors of columns.
const_assert PER_N == 12u;

@compute @workgroup_size(TILE_N / PER_N)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row0 = wid.y * TILE_M;
    let col0 = wid.x * TILE_N + lid.x * PER_N;
    // Strides of A and B along k, and between rows of A and columns of B.
    let step_a = select(1u, p.m, TRANS_A == 1u);
    let step_b = select(stride_of(p.n), 1u, TRANS_B == 1u);
    let unit_a = select(p.k, 1u, TRANS_A == 1u);
    let unit_b = select(1u, stride_of(p.k), TRANS_B == 1u);
    var at: array<u32, PER_M>;
    for (var r = 0u; r < PER_M; r++) {
        at[r] = min(row0 + r, p.m - 1u) * unit_a;
    }
    let b0 = columns(col0, unit_b);
    let b1 = columns(col0 + 4u, unit_b);
    let b2 = columns(col0 + 8u, unit_b);
    var c0: array<vec4<f32>, PER_M>;
    var c1: array<vec4<f32>, PER_M>;
    var c2: array<vec4<f32>, PER_M>;
    for (var kk = 0u; kk < p.k; kk++) {
        let kb = vec4<u32>(kk * step_b);
        let v0 = load_b(b0 + kb, kk);
        let v1 = load_b(b1 + kb, kk);
        let v2 = load_b(b2 + kb, kk);
        for (var r = 0u; r < PER_M; r++) {
            let va = vec4<f32>(a[at[r] + kk * step_a]);
            c0[r] = fma(va, v0, c0[r]);
            c1[r] = fma(va, v1, c1[r]);
            c2[r] = fma(va, v2, c2[r]);
        }
    }
    for (var r = 0u; r < PER_M; r++) {
        store(row0 + r, col0, c0[r]);
        store(row0 + r, col0 + 4u, c1[r]);
        store(row0 + r, col0 + 8u, c2[r]);
    }
    // The epilogue in a pass of its own over what this invocation just stored. In `store` it would be unrolled with
    // it, 192 times: as fast, but drivers would take seconds to compile it.
    for (var row = row0; row < min(row0 + PER_M, p.m); row++) {
        for (var col = col0; col < min(col0 + PER_N, p.n); col++) {
            let i = row * p.n + col;
            c[i] = epilogue(c[i], row, col);
        }
    }
}

fn store(row: u32, col: u32, v: vec4<f32>) {
    if row >= p.m {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if col + j < p.n {
            c[row * p.n + col + j] = v[j];
        }
    }
}
