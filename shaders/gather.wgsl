// Rows by number: y[i] = x[index[i]], or zeros where index[i] is 0xffffffff. With the inverse index this is also its
// own backward (each row of x is picked once at the most), so there is no scatter and nothing to race.
//# import linear

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(id: Invocation) {
    let i = number_of(id);
    if i >= p.rows * p.width {
        return;
    }
    let row = index[i / p.width];
    // 0xffffffff stands for no row; any other number past the end is a mistake, and gives zeros too.
    if row >= arrayLength(&x) / p.width {
        y[i] = 0.0;
    } else {
        y[i] = x[row * p.width + i % p.width];
    }
}
