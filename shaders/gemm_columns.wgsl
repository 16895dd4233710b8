// Operands in buffers of f32, and four columns of B, for the kernels whose invocations keep columns of C in registers.
//
// Open constants: TRANS_A (A is stored [k,m]), TRANS_B (B is stored [n,k]).
//# import gemm, quads

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;

// Where four columns of B start.
fn columns(col: u32, unit: u32) -> vec4<u32> {
    return four_from(col, p.n) * unit;
}

fn load_b(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
}
