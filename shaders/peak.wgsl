// What a device can do at best, for rooflines: products and sums in registers, and moving memory.
//
// multiply: each invocation runs eight chains of vectors that do not wait for each other, `steps` times; y keeps the result
// from being thrown away. copy: y = x, a vector at a time.
//# import linear

struct Params {
    n: u32,     // invocations of multiply, vectors of copy
    steps: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn multiply(id: Invocation) {
    let i = number_of(id);
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
fn copy(id: Invocation) {
    let i = number_of(id);
    if i < p.n {
        y[i] = x[i];
    }
}
