// C[m,n] = act(alpha · op(A)·op(B) + bias) + residual, f32, for drivers that run on the CPU.
//
// Each invocation keeps 8 rows × 4 columns of C in registers; the 8 invocations of a workgroup are neighbours in n,
// so that A's addresses are uniform across the workgroup (a scalar load and a broadcast there) and only B's differ.
// No workgroup memory: on such drivers it is ordinary memory, and barriers are expensive.
// Edges: addresses are clamped to the last row or column, and what they compute is not stored.
//
// Open constants: as in gemm_tile.wgsl.

struct Params {
    m: u32,
    n: u32,
    k: u32,
    alpha: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;

const ROWS: u32 = 8u;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row0 = wid.y * ROWS;
    let col0 = wid.x * 32u + lid.x * 4u;
    let last = p.m - 1u;
    // Strides of A and B along k, and each row's and column's start.
    let step_a = select(1u, p.m, TRANS_A == 1u);
    let step_b = select(p.n, 1u, TRANS_B == 1u);
    let unit_a = select(p.k, 1u, TRANS_A == 1u);
    let unit_b = select(1u, p.k, TRANS_B == 1u);
    var a0 = min(row0, last) * unit_a;
    var a1 = min(row0 + 1u, last) * unit_a;
    var a2 = min(row0 + 2u, last) * unit_a;
    var a3 = min(row0 + 3u, last) * unit_a;
    var a4 = min(row0 + 4u, last) * unit_a;
    var a5 = min(row0 + 5u, last) * unit_a;
    var a6 = min(row0 + 6u, last) * unit_a;
    var a7 = min(row0 + 7u, last) * unit_a;
    var b0 = min(col0, p.n - 1u) * unit_b;
    var b1 = min(col0 + 1u, p.n - 1u) * unit_b;
    var b2 = min(col0 + 2u, p.n - 1u) * unit_b;
    var b3 = min(col0 + 3u, p.n - 1u) * unit_b;
    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    var c4 = vec4<f32>();
    var c5 = vec4<f32>();
    var c6 = vec4<f32>();
    var c7 = vec4<f32>();
    for (var kk = 0u; kk < p.k; kk++) {
        let ka = kk * step_a;
        let kb = kk * step_b;
        let vb = vec4<f32>(b[b0 + kb], b[b1 + kb], b[b2 + kb], b[b3 + kb]);
        c0 = fma(vec4<f32>(a[a0 + ka]), vb, c0);
        c1 = fma(vec4<f32>(a[a1 + ka]), vb, c1);
        c2 = fma(vec4<f32>(a[a2 + ka]), vb, c2);
        c3 = fma(vec4<f32>(a[a3 + ka]), vb, c3);
        c4 = fma(vec4<f32>(a[a4 + ka]), vb, c4);
        c5 = fma(vec4<f32>(a[a5 + ka]), vb, c5);
        c6 = fma(vec4<f32>(a[a6 + ka]), vb, c6);
        c7 = fma(vec4<f32>(a[a7 + ka]), vb, c7);
    }
    store(row0, col0, c0);
    store(row0 + 1u, col0, c1);
    store(row0 + 2u, col0, c2);
    store(row0 + 3u, col0, c3);
    store(row0 + 4u, col0, c4);
    store(row0 + 5u, col0, c5);
    store(row0 + 6u, col0, c6);
    store(row0 + 7u, col0, c7);
}

fn store(row: u32, col: u32, v: vec4<f32>) {
    if row >= p.m {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if col + j < p.n {
            c[row * p.n + col + j] = epilogue(v[j], row, col + j);
        }
    }
}
