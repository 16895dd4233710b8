
// The GEMM's epilogue, shared by its variants.
fn activate(v: f32) -> f32 {
    if ACT == 1u {
        return quick_gelu(v);
    }
    if ACT == 2u {
        return erf_gelu(v);
    }
    if ACT == 3u {
        return max(v, 0.0);
    }
    return v;
}

fn epilogue(value: f32, row: u32, col: u32) -> f32 {
    var v = p.alpha * value;
    if BIAS == 1u {
        v += bias[col];
    }
    v = activate(v);
    if RESIDUAL == 1u {
        v += residual[row * p.n + col];
    }
    return v;
}
