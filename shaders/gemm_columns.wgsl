
// Four columns of B, for the kernels whose invocations keep columns of C in registers.

// Where four columns of B start.
fn columns(col: u32, unit: u32) -> vec4<u32> {
    return min(vec4<u32>(col) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u)) * unit;
}

fn load_b(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
}
