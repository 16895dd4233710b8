// Operands in buffers, and four columns of B, for the kernels whose invocations keep columns of C in registers.
//
// Open constants: TRANS_A (A is stored [k,m]), TRANS_B (B is stored [n,k]), HALF_B (B is f16, two to a word, rows padded to whole
// words), BYTE_B (B is whole numbers of 8 bits, four to a word, rows padded to whole words, times their scales), SCALED (the scales
// are those of columns).
//# import gemm, quads

@group(0) @binding(1) var<storage, read> a: array<f32>;
//# if BYTE_B
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(6) var<storage, read> scales: array<f32>;

fn scale_of(row: u32) -> f32 {
    return scales[row];
}

fn byte_of(at: u32) -> f32 {
    return f32(extractBits(bitcast<i32>(b[at / 4u]), 8u * (at % 4u), 8u));
}
//# else
//# if HALF_B
@group(0) @binding(2) var<storage, read> b: array<u32>;

fn half_of(at: u32) -> f32 {
    return unpack2x16float(b[at / 2u] >> (16u * (at % 2u))).x;
}
//# else
@group(0) @binding(2) var<storage, read> b: array<f32>;
//# end
//# end

// Numbers from one row of B to the next, if a row has `width` that count.
fn stride_of(width: u32) -> u32 {
    let whole = select(1u, 2u, HALF_B == 1u) * select(1u, 4u, BYTE_B == 1u);
    return (width + whole - 1u) / whole * whole;
}

// Where four columns of B start.
fn columns(col: u32, unit: u32) -> vec4<u32> {
    return four_from(col, p.n) * unit;
}

// Four numbers of a step of k.
fn load_b(at: vec4<u32>, kk: u32) -> vec4<f32> {
    //# if BYTE_B
    let four = vec4<f32>(byte_of(at.x), byte_of(at.y), byte_of(at.z), byte_of(at.w));
    //# if SCALED
    return four;
    //# else
    return four * scale_of(kk);
    //# end
    //# else
    //# if HALF_B
    return vec4<f32>(half_of(at.x), half_of(at.y), half_of(at.z), half_of(at.w));
    //# else
    return vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
    //# end
    //# end
}
