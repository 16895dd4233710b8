// LayerNorm over the last dimension of x [rows, width], written as texels for a product that reads textures: for drivers
// that run on the CPU in subgroups of eight. Statistics as in layernorm.wgsl.
//
// One workgroup of eight invocations, which are one subgroup, per four rows: reading a word of a buffer is what costs
// there, so x is read twice instead of three times, and gain and shift once for all four rows.
//# import quads

struct Params {
    rows: u32,
    width: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read> shift: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;
@group(0) @binding(5) var y: texture_storage_2d<rgba32float, write>;

// Which of a texel's four columns there are.
fn inside(col: u32) -> vec4<bool> {
    return vec4<u32>(col) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.width);
}

// Four columns; past the last one, that one again.
fn four(at: u32, col: u32) -> vec4<f32> {
    let c = four_from(col, p.width) + at;
    return vec4<f32>(x[c.x], x[c.y], x[c.z], x[c.w]);
}

// Mean and reciprocal standard deviation of a row, in one pass: running means and squared deviations of each invocation's
// four columns (Welford), put together at the end (Chan).
fn statistics(row: u32, lane: u32) -> vec2<f32> {
    var count = vec4<f32>();
    var mean = vec4<f32>();
    var squares = vec4<f32>();
    for (var col = 4u * lane; col < p.width; col += 32u) {
        let here = select(vec4<f32>(), vec4<f32>(1.0), inside(col));
        let v = four(row * p.width, col);
        count += here;
        let from_mean = v - mean;
        mean += here * from_mean / max(count, vec4<f32>(1.0));
        squares += here * from_mean * (v - mean);
    }
    let width = f32(p.width);
    let of_row = subgroupAdd(dot(count, mean)) / width;
    let away = mean - of_row;
    let variance = subgroupAdd(dot(squares, vec4<f32>(1.0)) + dot(count * away, away)) / width;
    return vec2<f32>(of_row, inverseSqrt(variance + p.eps));
}

@compute @workgroup_size(8)
fn forward(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = (wid.y * nwg.x + wid.x) * 4u;
    if first >= p.rows {
        return;
    }
    // Past the last row, that one again.
    let rows = four_from(first, p.rows);
    let s0 = statistics(rows.x, lane);
    let s1 = statistics(rows.y, lane);
    let s2 = statistics(rows.z, lane);
    let s3 = statistics(rows.w, lane);
    if lane == 0u {
        keep(rows.x, s0);
        keep(rows.y, s1);
        keep(rows.z, s2);
        keep(rows.w, s3);
    }
    for (var col = 4u * lane; col < p.width; col += 32u) {
        let c = four_from(col, p.width);
        let g = vec4<f32>(gain[c.x], gain[c.y], gain[c.z], gain[c.w]);
        let s = vec4<f32>(shift[c.x], shift[c.y], shift[c.z], shift[c.w]);
        put(rows.x, col, s0, g, s);
        put(rows.y, col, s1, g, s);
        put(rows.z, col, s2, g, s);
        put(rows.w, col, s3, g, s);
    }
}

fn keep(row: u32, s: vec2<f32>) {
    stats[2u * row] = s.x;
    stats[2u * row + 1u] = s.y;
}

fn put(row: u32, col: u32, s: vec2<f32>, g: vec4<f32>, add: vec4<f32>) {
    let v = fma((four(row * p.width, col) - s.x) * s.y, g, add);
    // What a texel has past the last column is zero, as products expect it.
    textureStore(y, vec2<u32>(col / 4u, row), select(vec4<f32>(), v, inside(col)));
}
