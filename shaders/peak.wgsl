// What an adapter can do at best, for rooflines: products and sums in registers, and moving memory.
//
// multiply: each invocation runs eight chains of vectors that do not wait for each other, `steps` times; y keeps the result
// from being thrown away. copy: y = x, a vector at a time.

struct Params {
    n: u32,     // invocations of multiply, vectors of copy
    steps: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

fn number(wid: vec3<u32>, nwg: vec3<u32>, lid: u32) -> u32 {
    return (wid.y * nwg.x + wid.x) * 64u + lid;
}

@compute @workgroup_size(64)
fn multiply(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = number(wid, nwg, lid);
    if i >= p.n {
        return;
    }
    let f = vec4<f32>(p.factor);
    let s = vec4<f32>(f32(i) * 1e-9);
    var a = s;
    var b = s + 1.0;
    var c = s + 2.0;
    var d = s + 3.0;
    var e = s + 4.0;
    var g = s + 5.0;
    var h = s + 6.0;
    var k = s + 7.0;
    for (var step = 0u; step < p.steps; step++) {
        a = fma(a, f, s);
        b = fma(b, f, s);
        c = fma(c, f, s);
        d = fma(d, f, s);
        e = fma(e, f, s);
        g = fma(g, f, s);
        h = fma(h, f, s);
        k = fma(k, f, s);
        a = fma(a, f, s);
        b = fma(b, f, s);
        c = fma(c, f, s);
        d = fma(d, f, s);
        e = fma(e, f, s);
        g = fma(g, f, s);
        h = fma(h, f, s);
        k = fma(k, f, s);
    }
    y[i] = a + b + c + d + e + g + h + k;
}

@compute @workgroup_size(64)
fn copy(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = number(wid, nwg, lid);
    if i < p.n {
        y[i] = x[i];
    }
}
