// The smallest and the largest element of x [rows, width], to each row of which offsets[row·step] is added when
// OFFSET is 1. rows: one workgroup per row, y [rows, 2]. all_rows: one workgroup takes `pairs` [rows, 2] to one.
//# import rowwise

struct Params {
    rows: u32,
    width: u32,
    step: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> pairs: array<f32>;
//# if OFFSET
@group(0) @binding(3) var<storage, read> offsets: array<f32>;
//# end
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn rows(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    var low = 3.0e38;
    var high = -3.0e38;
    for (var i = lid; i < p.width; i += LANES) {
        low = min(low, x[row * p.width + i]);
        high = max(high, x[row * p.width + i]);
    }
    low = -largest(-low, lid);
    high = largest(high, lid);
    if lid == 0u {
        var offset = 0.0;
        //# if OFFSET
        offset = offsets[row * p.step];
        //# end
        y[2u * row] = low + offset;
        y[2u * row + 1u] = high + offset;
    }
}

@compute @workgroup_size(LANES)
fn all_rows(@builtin(local_invocation_index) lid: u32) {
    var low = 3.0e38;
    var high = -3.0e38;
    for (var i = lid; i < p.rows; i += LANES) {
        low = min(low, pairs[2u * i]);
        high = max(high, pairs[2u * i + 1u]);
    }
    low = -largest(-low, lid);
    high = largest(high, lid);
    if lid == 0u {
        y[0] = low;
        y[1] = high;
    }
}
