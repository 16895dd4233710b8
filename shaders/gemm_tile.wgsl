// C[m,n] = act(alpha · op(A)·op(B) + bias) + residual, f32, for GPUs.
//
// A 64×64 tile of C per workgroup of 16×16 invocations, each with 4×4 of it in registers; A and B are staged
// through workgroup memory, 16 steps of k at a time. Edges are staged as zeros and not stored.
//
// Open constants: TRANS_A (A is stored [k,m]), TRANS_B (B is stored [n,k]), BIAS, RESIDUAL (0 or 1),
// ACT (0 none, 1 QuickGELU, 2 erf-GELU, 3 ReLU).

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

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
// One more column than needed, so that the transposing writes fall into different banks.
const STRIDE: u32 = 65u;

var<workgroup> tile_a: array<f32, 1040>; // DEPTH × STRIDE
var<workgroup> tile_b: array<f32, 1040>;

fn load_a(row: u32, kk: u32) -> f32 {
    if row >= p.m || kk >= p.k {
        return 0.0;
    }
    if TRANS_A == 1u {
        return a[kk * p.m + row];
    }
    return a[row * p.k + kk];
}

fn load_b(kk: u32, col: u32) -> f32 {
    if col >= p.n || kk >= p.k {
        return 0.0;
    }
    if TRANS_B == 1u {
        return b[col * p.k + kk];
    }
    return b[kk * p.n + col];
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_id) lid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row0 = wid.y * TILE;
    let col0 = wid.x * TILE;
    var acc: array<vec4<f32>, 4>;
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        for (var i = 0u; i < 4u; i++) {
            let e = index + i * 256u;
            // Neighbouring invocations read neighbouring addresses, whichever way the operand is stored.
            if TRANS_A == 1u {
                tile_a[(e / TILE) * STRIDE + e % TILE] = load_a(row0 + e % TILE, k0 + e / TILE);
            } else {
                tile_a[(e % DEPTH) * STRIDE + e / DEPTH] = load_a(row0 + e / DEPTH, k0 + e % DEPTH);
            }
            if TRANS_B == 1u {
                tile_b[(e % DEPTH) * STRIDE + e / DEPTH] = load_b(k0 + e % DEPTH, col0 + e / DEPTH);
            } else {
                tile_b[(e / TILE) * STRIDE + e % TILE] = load_b(k0 + e / TILE, col0 + e % TILE);
            }
        }
        workgroupBarrier();
        for (var kk = 0u; kk < DEPTH; kk++) {
            let ra = kk * STRIDE + lid.y * 4u;
            let rb = kk * STRIDE + lid.x * 4u;
            let vb = vec4<f32>(tile_b[rb], tile_b[rb + 1u], tile_b[rb + 2u], tile_b[rb + 3u]);
            acc[0] += tile_a[ra] * vb;
            acc[1] += tile_a[ra + 1u] * vb;
            acc[2] += tile_a[ra + 2u] * vb;
            acc[3] += tile_a[ra + 3u] * vb;
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let row = row0 + lid.y * 4u + i;
        for (var j = 0u; j < 4u; j++) {
            let col = col0 + lid.x * 4u + j;
            if row < p.m && col < p.n {
                c[row * p.n + col] = epilogue(acc[i][j], row, col);
            }
        }
    }
}
