// Parts of tensors: y[place + i] = x[source + i] for i below count.
//# import linear

struct Params {
    count: u32,
    source: u32,
    place: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(id: Invocation) {
    let i = number_of(id);
    if i >= p.count {
        return;
    }
    y[p.place + i] = x[p.source + i];
}
