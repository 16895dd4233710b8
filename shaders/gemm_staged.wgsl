// Operands in buffers, for the kernels that stage them through workgroup memory. Past the edges there are zeros.
//
// Open constants: TRANS_A (A is stored [k,m]), TRANS_B (B is stored [n,k]), HALF_B (B is f16, two to a word, rows padded to
// whole words).
//# import gemm

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;

fn load_a(row: u32, kk: u32) -> f32 {
    if row >= p.m || kk >= p.k {
        return 0.0;
    }
    if TRANS_A == 1u {
        return a[kk * p.m + row];
    }
    return a[row * p.k + kk];
}

fn load_b(kk: u32, col: u32) -> f32 {
    if col >= p.n || kk >= p.k {
        return 0.0;
    }
    let row = select(kk, col, TRANS_B == 1u);
    let at = select(col, kk, TRANS_B == 1u);
    let width = select(p.n, p.k, TRANS_B == 1u);
    if HALF_B == 1u {
        return unpack2x16float(b[row * ((width + 1u) / 2u) + at / 2u])[at % 2u];
    }
    return bitcast<f32>(b[row * width + at]);
}
