
// The GEMM's epilogue, shared by its variants.
fn epilogue(value: f32, row: u32, col: u32) -> f32 {
    var v = p.alpha * value;
    if BIAS == 1u {
        v += bias[col];
    }
    if ACT == 1u {
        v = quick_gelu(v);
    } else if ACT == 2u {
        v = erf_gelu(v);
    }
    if RESIDUAL == 1u {
        v += residual[row * p.n + col];
    }
    return v;
}
