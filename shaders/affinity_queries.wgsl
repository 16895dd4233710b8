// Twelve queries per invocation: where they start and how they are loaded, for the kernels that keep them in registers.
//# import affinity_cache, quads

@group(0) @binding(1) var<storage, read> f: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;

const_assert PER == 12u;

// Where four queries start.
fn rows_of(query: u32) -> vec4<u32> {
    return four_from(query, p.queries) * p.width;
}

fn load(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(f[at.x], f[at.y], f[at.z], f[at.w]);
}
