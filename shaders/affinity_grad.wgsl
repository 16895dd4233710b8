// What Tip-Adapter-F's keys get back. With S = G·fᵀ [keys, queries] and the logits' gradient dy [queries, classes],
// y[j,b] = scale·β·exp(−β·(1 − S[j,b]))·dy[b, class of j], so that the keys' gradient is the product y·f.
//# import linear

struct Params {
    keys: u32,
    queries: u32,
    classes: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>; // [keys]
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(id: Invocation) {
    let i = number_of(id);
    if i >= p.keys * p.queries {
        return;
    }
    let class_ = min(labels[i / p.queries], p.classes - 1u);
    let d = dy[(i % p.queries) * p.classes + class_];
    y[i] = p.scale * beta[0] * exp(beta[0] * (s[i] - 1.0)) * d;
}
