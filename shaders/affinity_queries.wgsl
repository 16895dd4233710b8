
// Twelve queries per invocation: where they start, how they are loaded, and how what belongs to them is stored. Shared by
// the kernels that keep them in registers.

const QUERIES: u32 = 12u;

// Where four queries start.
fn rows_of(query: u32) -> vec4<u32> {
    return min(vec4<u32>(query) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.queries - 1u)) * p.width;
}

fn load(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(f[at.x], f[at.y], f[at.z], f[at.w]);
}

fn store(v: vec4<f32>, query: u32, class_: u32, beta: u32) {
    for (var i = 0u; i < 4u; i++) {
        if query + i < p.queries {
            var value = p.scale * v[i];
            if BASE == 1u {
                value += base[(query + i) * p.classes + class_];
            }
            y[(beta * p.queries + query + i) * p.classes + class_] = value;
        }
    }
}
