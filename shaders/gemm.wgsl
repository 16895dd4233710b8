// What all GEMM kernels share: parameters, the bindings other than the operands, and the epilogue
// C[m,n] = act(alpha · sum + bias) + residual. All of them scale and shift a sum by one fused multiply-add, since their
// results must be equal to the bit.
//
// Where B's numbers are whole ones of 8 bits (BYTE_B), each stands for so many times its row's scale. Of Bᵀ a row is a column of
// the product, whose sum is scaled once at its end (SCALED); else it is a step of k, and scaled as it is read. Who imports
// this text binds the scales, and reads them by `scale_of`.
//
// Open constants: BIAS, RESIDUAL, SCALED, HALF_C (C is f16; 0 or 1), ACT (0 none, 1 QuickGELU, 2 erf-GELU, 3 ReLU, 4 tanh-GELU).
//# import gelu

struct Params {
    m: u32,
    n: u32,
    k: u32,
    alpha: f32,
    // Where A's rows lie in C and the residual; gemm_texel.wgsl only.
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
//# if BIAS
@group(0) @binding(3) var<storage, read> bias: array<f32>;
//# end
//# if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>;
//# end
//# if HALF_C
@group(0) @binding(5) var<storage, read_write> c: array<f16>;
//# else
@group(0) @binding(5) var<storage, read_write> c: array<f32>;
//# end

fn bias_of(col: u32) -> f32 {
    //# if BIAS
    return bias[col];
    //# else
    return 0.0;
    //# end
}

fn biases_of(cols: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(bias_of(cols.x), bias_of(cols.y), bias_of(cols.z), bias_of(cols.w));
}

// What a column's sum is multiplied by.
fn factor_of(col: u32) -> f32 {
    //# if SCALED
    return p.alpha * scale_of(col);
    //# else
    return p.alpha;
    //# end
}

fn factors_of(cols: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(factor_of(cols.x), factor_of(cols.y), factor_of(cols.z), factor_of(cols.w));
}

fn activate(v: f32) -> f32 {
    if ACT == 1u {
        return quick_gelu(v);
    }
    if ACT == 2u {
        return erf_gelu(v);
    }
    if ACT == 4u {
        return tanh_gelu(v);
    }
    if ACT == 3u {
        return max(v, 0.0);
    }
    return v;
}

fn with_residual(v: f32, at: u32) -> f32 {
    //# if RESIDUAL
    return v + residual[at];
    //# else
    return v;
    //# end
}

fn epilogue(sum: f32, row: u32, col: u32) -> f32 {
    return with_residual(activate(fma(factor_of(col), sum, bias_of(col))), row * p.n + col);
}
