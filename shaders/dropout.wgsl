// ReLU with dropout after it, as the bottlenecks train with.
//
// mask: drawn[i] = 0 with probability `rate`, else 1/(1 − rate): element i of stream (seed, step, stream).
// forward: y = max(x, 0)·mask.  backward: dx = dy·mask where x > 0, else 0 (as PyTorch, 0 at x = 0).
//# import linear, philox

struct Params {
    n: u32,
    stream: u32,
    rate: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read> factors: array<f32>; // a mask that was drawn
@group(0) @binding(4) var<storage, read> counter: array<u32>; // seed low, seed high, step
@group(0) @binding(5) var<storage, read_write> drawn: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn mask(id: Invocation) {
    let block = number_of(id);
    if block * 4u >= p.n {
        return;
    }
    let words = philox(vec4<u32>(block, p.stream, counter[2], 0u), vec2<u32>(counter[0], counter[1]));
    for (var j = 0u; j < 4u; j++) {
        if block * 4u + j < p.n {
            drawn[block * 4u + j] = select(0.0, 1.0 / (1.0 - p.rate), unit(words[j]) > p.rate);
        }
    }
}

@compute @workgroup_size(64)
fn forward(id: Invocation) {
    let i = number_of(id);
    if i >= p.n {
        return;
    }
    y[i] = max(x[i], 0.0) * factors[i];
}

@compute @workgroup_size(64)
fn backward(id: Invocation) {
    let i = number_of(id);
    if i >= p.n {
        return;
    }
    dx[i] = select(0.0, dy[i] * factors[i], x[i] > 0.0);
}
