
// The GEMM's epilogue, shared by its variants: all of them scale and shift a sum by one fused multiply-add, since their
// results must be equal to the bit.
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
    var shift = 0.0;
    if BIAS == 1u {
        shift = bias[col];
    }
    var v = activate(fma(p.alpha, value, shift));
    if RESIDUAL == 1u {
        v += residual[row * p.n + col];
    }
    return v;
}
