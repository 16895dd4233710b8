// A matrix of a buffer, staged as texels: y [rows, cols/4], four columns a texel, the last filled up with zeros.
//
// stage: y = x [rows, cols]. stage_transposed: y = xᵀ for x [cols, rows].
// `first` is where the rows that are staged begin in x. FOUR: cols is a multiple of four, and stage reads four at once.
//# import linear

struct Params {
    rows: u32,
    cols: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var y: texture_storage_2d<rgba32float, write>;

//# if FOUR
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

@compute @workgroup_size(64)
fn stage(id: Invocation) {
    let i = number_of(id);
    let width = p.cols / 4u;
    if i < p.rows * width {
        textureStore(y, vec2<u32>(i % width, i / width), x[p.first * width + i]);
    }
}
//# else
@group(0) @binding(1) var<storage, read> x: array<f32>;

@compute @workgroup_size(64)
fn stage(id: Invocation) {
    let i = number_of(id);
    let width = (p.cols + 3u) / 4u;
    if i >= p.rows * width {
        return;
    }
    let row = i / width;
    let col = i % width * 4u;
    let at = (p.first + row) * p.cols + col;
    var v = vec4<f32>(x[at], 0.0, 0.0, 0.0);
    if col + 4u <= p.cols {
        v = vec4<f32>(v.x, x[at + 1u], x[at + 2u], x[at + 3u]);
    } else {
        for (var j = 1u; j < 4u; j++) {
            if j < p.cols - col {
                v[j] = x[at + j];
            }
        }
    }
    textureStore(y, vec2<u32>(i % width, row), v);
}

@compute @workgroup_size(64)
fn stage_transposed(id: Invocation) {
    // Neighbouring invocations take neighbouring rows of y, which lie side by side in x.
    let i = number_of(id);
    let width = (p.cols + 3u) / 4u;
    if i >= p.rows * width {
        return;
    }
    let row = i % p.rows;
    let col = i / p.rows * 4u;
    let at = col * p.rows + row;
    var v = vec4<f32>(x[at], 0.0, 0.0, 0.0);
    for (var j = 1u; j < 4u; j++) {
        if j < p.cols - col {
            v[j] = x[at + j * p.rows];
        }
    }
    textureStore(y, vec2<u32>(i / p.rows, row), v);
}
//# end
