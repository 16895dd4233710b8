// C[m,n] = act(alpha · op(A)·op(B) + bias) + residual, f32, for drivers that run on the CPU in subgroups of eight.
//
// There a load in a loop costs a branch per lane, even where all lanes want the same word, and arithmetic next to
// nothing. So no word of A is loaded twice: each of the eight invocations of a workgroup, which are one subgroup, loads
// another row's word, and hands it to all by a broadcast. Each invocation keeps 32 rows × 8 columns of C, for 12 loads
// in 256 products where gemm_rows.wgsl has 28 in 192. The rows are written out: a broadcast's lane must be a constant,
// and an array that is indexed by anything else does not stay in registers.
// Edges: addresses are clamped to the last row or column, and what they compute is not stored.
//
// Open constants: as in gemm_tile.wgsl. The subgroup size must be 8.

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

const ROWS: u32 = 32u;
const COLS: u32 = 8u;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let row0 = wid.y * ROWS;
    let col0 = (wid.x * 8u + lane) * COLS;
    // Strides of A and B along k, and between rows of A and columns of B.
    let step_a = select(1u, p.m, TRANS_A == 1u);
    let step_b = select(p.n, 1u, TRANS_B == 1u);
    let unit_a = select(p.k, 1u, TRANS_A == 1u);
    let unit_b = select(1u, p.k, TRANS_B == 1u);
    let rows = min(vec4<u32>(row0 + lane) + vec4<u32>(0u, 8u, 16u, 24u), vec4<u32>(p.m - 1u)) * unit_a;
    let b0 = columns(col0, unit_b);
    let b1 = columns(col0 + 4u, unit_b);
    var c0: array<vec4<f32>, ROWS>;
    var c1: array<vec4<f32>, ROWS>;
    for (var kk = 0u; kk < p.k; kk++) {
        let kb = vec4<u32>(kk * step_b);
        let v0 = load_b(b0 + kb);
        let v1 = load_b(b1 + kb);
        let ka = kk * step_a;
        let a0 = a[rows.x + ka];
        let a1 = a[rows.y + ka];
        let a2 = a[rows.z + ka];
        let a3 = a[rows.w + ka];
        var s: vec4<f32>;
        s = vec4<f32>(subgroupBroadcast(a0, 0u));
        c0[0] = fma(s, v0, c0[0]);
        c1[0] = fma(s, v1, c1[0]);
        s = vec4<f32>(subgroupBroadcast(a0, 1u));
        c0[1] = fma(s, v0, c0[1]);
        c1[1] = fma(s, v1, c1[1]);
        s = vec4<f32>(subgroupBroadcast(a0, 2u));
        c0[2] = fma(s, v0, c0[2]);
        c1[2] = fma(s, v1, c1[2]);
        s = vec4<f32>(subgroupBroadcast(a0, 3u));
        c0[3] = fma(s, v0, c0[3]);
        c1[3] = fma(s, v1, c1[3]);
        s = vec4<f32>(subgroupBroadcast(a0, 4u));
        c0[4] = fma(s, v0, c0[4]);
        c1[4] = fma(s, v1, c1[4]);
        s = vec4<f32>(subgroupBroadcast(a0, 5u));
        c0[5] = fma(s, v0, c0[5]);
        c1[5] = fma(s, v1, c1[5]);
        s = vec4<f32>(subgroupBroadcast(a0, 6u));
        c0[6] = fma(s, v0, c0[6]);
        c1[6] = fma(s, v1, c1[6]);
        s = vec4<f32>(subgroupBroadcast(a0, 7u));
        c0[7] = fma(s, v0, c0[7]);
        c1[7] = fma(s, v1, c1[7]);
        s = vec4<f32>(subgroupBroadcast(a1, 0u));
        c0[8] = fma(s, v0, c0[8]);
        c1[8] = fma(s, v1, c1[8]);
        s = vec4<f32>(subgroupBroadcast(a1, 1u));
        c0[9] = fma(s, v0, c0[9]);
        c1[9] = fma(s, v1, c1[9]);
        s = vec4<f32>(subgroupBroadcast(a1, 2u));
        c0[10] = fma(s, v0, c0[10]);
        c1[10] = fma(s, v1, c1[10]);
        s = vec4<f32>(subgroupBroadcast(a1, 3u));
        c0[11] = fma(s, v0, c0[11]);
        c1[11] = fma(s, v1, c1[11]);
        s = vec4<f32>(subgroupBroadcast(a1, 4u));
        c0[12] = fma(s, v0, c0[12]);
        c1[12] = fma(s, v1, c1[12]);
        s = vec4<f32>(subgroupBroadcast(a1, 5u));
        c0[13] = fma(s, v0, c0[13]);
        c1[13] = fma(s, v1, c1[13]);
        s = vec4<f32>(subgroupBroadcast(a1, 6u));
        c0[14] = fma(s, v0, c0[14]);
        c1[14] = fma(s, v1, c1[14]);
        s = vec4<f32>(subgroupBroadcast(a1, 7u));
        c0[15] = fma(s, v0, c0[15]);
        c1[15] = fma(s, v1, c1[15]);
        s = vec4<f32>(subgroupBroadcast(a2, 0u));
        c0[16] = fma(s, v0, c0[16]);
        c1[16] = fma(s, v1, c1[16]);
        s = vec4<f32>(subgroupBroadcast(a2, 1u));
        c0[17] = fma(s, v0, c0[17]);
        c1[17] = fma(s, v1, c1[17]);
        s = vec4<f32>(subgroupBroadcast(a2, 2u));
        c0[18] = fma(s, v0, c0[18]);
        c1[18] = fma(s, v1, c1[18]);
        s = vec4<f32>(subgroupBroadcast(a2, 3u));
        c0[19] = fma(s, v0, c0[19]);
        c1[19] = fma(s, v1, c1[19]);
        s = vec4<f32>(subgroupBroadcast(a2, 4u));
        c0[20] = fma(s, v0, c0[20]);
        c1[20] = fma(s, v1, c1[20]);
        s = vec4<f32>(subgroupBroadcast(a2, 5u));
        c0[21] = fma(s, v0, c0[21]);
        c1[21] = fma(s, v1, c1[21]);
        s = vec4<f32>(subgroupBroadcast(a2, 6u));
        c0[22] = fma(s, v0, c0[22]);
        c1[22] = fma(s, v1, c1[22]);
        s = vec4<f32>(subgroupBroadcast(a2, 7u));
        c0[23] = fma(s, v0, c0[23]);
        c1[23] = fma(s, v1, c1[23]);
        s = vec4<f32>(subgroupBroadcast(a3, 0u));
        c0[24] = fma(s, v0, c0[24]);
        c1[24] = fma(s, v1, c1[24]);
        s = vec4<f32>(subgroupBroadcast(a3, 1u));
        c0[25] = fma(s, v0, c0[25]);
        c1[25] = fma(s, v1, c1[25]);
        s = vec4<f32>(subgroupBroadcast(a3, 2u));
        c0[26] = fma(s, v0, c0[26]);
        c1[26] = fma(s, v1, c1[26]);
        s = vec4<f32>(subgroupBroadcast(a3, 3u));
        c0[27] = fma(s, v0, c0[27]);
        c1[27] = fma(s, v1, c1[27]);
        s = vec4<f32>(subgroupBroadcast(a3, 4u));
        c0[28] = fma(s, v0, c0[28]);
        c1[28] = fma(s, v1, c1[28]);
        s = vec4<f32>(subgroupBroadcast(a3, 5u));
        c0[29] = fma(s, v0, c0[29]);
        c1[29] = fma(s, v1, c1[29]);
        s = vec4<f32>(subgroupBroadcast(a3, 6u));
        c0[30] = fma(s, v0, c0[30]);
        c1[30] = fma(s, v1, c1[30]);
        s = vec4<f32>(subgroupBroadcast(a3, 7u));
        c0[31] = fma(s, v0, c0[31]);
        c1[31] = fma(s, v1, c1[31]);
    }
    // Factor and bias while the tile is in registers; the residual on the way out, unless an activation comes before it.
    let alpha = vec4<f32>(p.alpha);
    var bias0 = vec4<f32>();
    var bias1 = vec4<f32>();
    if BIAS == 1u {
        bias0 = load_bias(col0);
        bias1 = load_bias(col0 + 4u);
    }
    store(row0 + 0u, col0, fma(alpha, c0[0], bias0));
    store(row0 + 0u, col0 + 4u, fma(alpha, c1[0], bias1));
    store(row0 + 1u, col0, fma(alpha, c0[1], bias0));
    store(row0 + 1u, col0 + 4u, fma(alpha, c1[1], bias1));
    store(row0 + 2u, col0, fma(alpha, c0[2], bias0));
    store(row0 + 2u, col0 + 4u, fma(alpha, c1[2], bias1));
    store(row0 + 3u, col0, fma(alpha, c0[3], bias0));
    store(row0 + 3u, col0 + 4u, fma(alpha, c1[3], bias1));
    store(row0 + 4u, col0, fma(alpha, c0[4], bias0));
    store(row0 + 4u, col0 + 4u, fma(alpha, c1[4], bias1));
    store(row0 + 5u, col0, fma(alpha, c0[5], bias0));
    store(row0 + 5u, col0 + 4u, fma(alpha, c1[5], bias1));
    store(row0 + 6u, col0, fma(alpha, c0[6], bias0));
    store(row0 + 6u, col0 + 4u, fma(alpha, c1[6], bias1));
    store(row0 + 7u, col0, fma(alpha, c0[7], bias0));
    store(row0 + 7u, col0 + 4u, fma(alpha, c1[7], bias1));
    store(row0 + 8u, col0, fma(alpha, c0[8], bias0));
    store(row0 + 8u, col0 + 4u, fma(alpha, c1[8], bias1));
    store(row0 + 9u, col0, fma(alpha, c0[9], bias0));
    store(row0 + 9u, col0 + 4u, fma(alpha, c1[9], bias1));
    store(row0 + 10u, col0, fma(alpha, c0[10], bias0));
    store(row0 + 10u, col0 + 4u, fma(alpha, c1[10], bias1));
    store(row0 + 11u, col0, fma(alpha, c0[11], bias0));
    store(row0 + 11u, col0 + 4u, fma(alpha, c1[11], bias1));
    store(row0 + 12u, col0, fma(alpha, c0[12], bias0));
    store(row0 + 12u, col0 + 4u, fma(alpha, c1[12], bias1));
    store(row0 + 13u, col0, fma(alpha, c0[13], bias0));
    store(row0 + 13u, col0 + 4u, fma(alpha, c1[13], bias1));
    store(row0 + 14u, col0, fma(alpha, c0[14], bias0));
    store(row0 + 14u, col0 + 4u, fma(alpha, c1[14], bias1));
    store(row0 + 15u, col0, fma(alpha, c0[15], bias0));
    store(row0 + 15u, col0 + 4u, fma(alpha, c1[15], bias1));
    store(row0 + 16u, col0, fma(alpha, c0[16], bias0));
    store(row0 + 16u, col0 + 4u, fma(alpha, c1[16], bias1));
    store(row0 + 17u, col0, fma(alpha, c0[17], bias0));
    store(row0 + 17u, col0 + 4u, fma(alpha, c1[17], bias1));
    store(row0 + 18u, col0, fma(alpha, c0[18], bias0));
    store(row0 + 18u, col0 + 4u, fma(alpha, c1[18], bias1));
    store(row0 + 19u, col0, fma(alpha, c0[19], bias0));
    store(row0 + 19u, col0 + 4u, fma(alpha, c1[19], bias1));
    store(row0 + 20u, col0, fma(alpha, c0[20], bias0));
    store(row0 + 20u, col0 + 4u, fma(alpha, c1[20], bias1));
    store(row0 + 21u, col0, fma(alpha, c0[21], bias0));
    store(row0 + 21u, col0 + 4u, fma(alpha, c1[21], bias1));
    store(row0 + 22u, col0, fma(alpha, c0[22], bias0));
    store(row0 + 22u, col0 + 4u, fma(alpha, c1[22], bias1));
    store(row0 + 23u, col0, fma(alpha, c0[23], bias0));
    store(row0 + 23u, col0 + 4u, fma(alpha, c1[23], bias1));
    store(row0 + 24u, col0, fma(alpha, c0[24], bias0));
    store(row0 + 24u, col0 + 4u, fma(alpha, c1[24], bias1));
    store(row0 + 25u, col0, fma(alpha, c0[25], bias0));
    store(row0 + 25u, col0 + 4u, fma(alpha, c1[25], bias1));
    store(row0 + 26u, col0, fma(alpha, c0[26], bias0));
    store(row0 + 26u, col0 + 4u, fma(alpha, c1[26], bias1));
    store(row0 + 27u, col0, fma(alpha, c0[27], bias0));
    store(row0 + 27u, col0 + 4u, fma(alpha, c1[27], bias1));
    store(row0 + 28u, col0, fma(alpha, c0[28], bias0));
    store(row0 + 28u, col0 + 4u, fma(alpha, c1[28], bias1));
    store(row0 + 29u, col0, fma(alpha, c0[29], bias0));
    store(row0 + 29u, col0 + 4u, fma(alpha, c1[29], bias1));
    store(row0 + 30u, col0, fma(alpha, c0[30], bias0));
    store(row0 + 30u, col0 + 4u, fma(alpha, c1[30], bias1));
    store(row0 + 31u, col0, fma(alpha, c0[31], bias0));
    store(row0 + 31u, col0 + 4u, fma(alpha, c1[31], bias1));
    if ACT == 0u {
        return;
    }
    // An activation in a pass of its own over what this invocation just stored: written out with the rows it would take
    // drivers seconds to compile.
    for (var row = row0; row < min(row0 + ROWS, p.m); row++) {
        for (var col = col0; col < min(col0 + COLS, p.n); col++) {
            let i = row * p.n + col;
            var v = activate(c[i]);
            if RESIDUAL == 1u {
                v += residual[i];
            }
            c[i] = v;
        }
    }
}

fn load_bias(col: u32) -> vec4<f32> {
    let at = min(vec4<u32>(col) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
    return vec4<f32>(bias[at.x], bias[at.y], bias[at.z], bias[at.w]);
}

fn store(row: u32, col: u32, v: vec4<f32>) {
    if row >= p.m {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if col + j < p.n {
            let i = row * p.n + col + j;
            if RESIDUAL == 1u && ACT == 0u {
                c[i] = v[j] + residual[i];
            } else {
                c[i] = v[j];
            }
        }
    }
}
