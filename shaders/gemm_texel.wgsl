// C[m,n] = act(alpha · A·op(B) + bias) + residual, f32, from operands in textures, for drivers that run on the CPU in
// subgroups of eight.
//
// There a buffer's word costs a branch per lane, but a texel of four words is fetched without any, six to eight times as
// fast. A is staged as texels along k ([m, k/4], texels.wgsl); B is a texture of [n, k/4] or of [k, n/4]. Frozen weights
// are kept as textures. Each of the eight invocations of a workgroup, which are one subgroup, fetches two rows of A and
// hands them to all by broadcasts; it keeps 16 rows × 4 columns of C. The rows are written out: a broadcast's lane must
// be a constant, and an array that is indexed by anything else does not stay in registers.
// Edges: coordinates are clamped to the last row or column, and what they compute is not stored. Texels past k hold zeros
// in A, so what B has there does not count.
//
// Open constants: TRANS_B (B is [n, k/4]), BIAS, RESIDUAL (0 or 1), ACT (0 none, 1 QuickGELU, 2 erf-GELU, 3 ReLU).

struct Params {
    m: u32,
    n: u32,
    k: u32,
    alpha: f32,
    // Where A's rows lie in C and the residual.
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var a: texture_2d<f32>;
@group(0) @binding(2) var b: texture_2d<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;

const ROWS: u32 = 16u;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let row0 = wid.y * ROWS;
    let col0 = (wid.x * 8u + lane) * 4u;
    let last = p.m - 1u;
    let r0 = min(row0 + lane, last);
    let r1 = min(row0 + 8u + lane, last);
    // The four columns as rows of B's texture, or as one texel of its rows.
    let cols = min(vec4<u32>(col0) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
    let texel = cols.x / 4u;
    var s: array<vec4<f32>, ROWS>;
    let steps = (p.k + 3u) / 4u;
    for (var i = 0u; i < steps; i++) {
        let a0 = textureLoad(a, vec2<u32>(i, r0), 0);
        let a1 = textureLoad(a, vec2<u32>(i, r1), 0);
        var b0: vec4<f32>;
        var b1: vec4<f32>;
        var b2: vec4<f32>;
        var b3: vec4<f32>;
        if TRANS_B == 1u {
            let t0 = textureLoad(b, vec2<u32>(i, cols.x), 0);
            let t1 = textureLoad(b, vec2<u32>(i, cols.y), 0);
            let t2 = textureLoad(b, vec2<u32>(i, cols.z), 0);
            let t3 = textureLoad(b, vec2<u32>(i, cols.w), 0);
            b0 = vec4<f32>(t0.x, t1.x, t2.x, t3.x);
            b1 = vec4<f32>(t0.y, t1.y, t2.y, t3.y);
            b2 = vec4<f32>(t0.z, t1.z, t2.z, t3.z);
            b3 = vec4<f32>(t0.w, t1.w, t2.w, t3.w);
        } else {
            let kk = min(vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.k - 1u));
            b0 = textureLoad(b, vec2<u32>(texel, kk.x), 0);
            b1 = textureLoad(b, vec2<u32>(texel, kk.y), 0);
            b2 = textureLoad(b, vec2<u32>(texel, kk.z), 0);
            b3 = textureLoad(b, vec2<u32>(texel, kk.w), 0);
        }
        s[0] = fma(vec4<f32>(subgroupBroadcast(a0.x, 0u)), b0, s[0]);
        s[1] = fma(vec4<f32>(subgroupBroadcast(a0.x, 1u)), b0, s[1]);
        s[2] = fma(vec4<f32>(subgroupBroadcast(a0.x, 2u)), b0, s[2]);
        s[3] = fma(vec4<f32>(subgroupBroadcast(a0.x, 3u)), b0, s[3]);
        s[4] = fma(vec4<f32>(subgroupBroadcast(a0.x, 4u)), b0, s[4]);
        s[5] = fma(vec4<f32>(subgroupBroadcast(a0.x, 5u)), b0, s[5]);
        s[6] = fma(vec4<f32>(subgroupBroadcast(a0.x, 6u)), b0, s[6]);
        s[7] = fma(vec4<f32>(subgroupBroadcast(a0.x, 7u)), b0, s[7]);
        s[8] = fma(vec4<f32>(subgroupBroadcast(a1.x, 0u)), b0, s[8]);
        s[9] = fma(vec4<f32>(subgroupBroadcast(a1.x, 1u)), b0, s[9]);
        s[10] = fma(vec4<f32>(subgroupBroadcast(a1.x, 2u)), b0, s[10]);
        s[11] = fma(vec4<f32>(subgroupBroadcast(a1.x, 3u)), b0, s[11]);
        s[12] = fma(vec4<f32>(subgroupBroadcast(a1.x, 4u)), b0, s[12]);
        s[13] = fma(vec4<f32>(subgroupBroadcast(a1.x, 5u)), b0, s[13]);
        s[14] = fma(vec4<f32>(subgroupBroadcast(a1.x, 6u)), b0, s[14]);
        s[15] = fma(vec4<f32>(subgroupBroadcast(a1.x, 7u)), b0, s[15]);
        s[0] = fma(vec4<f32>(subgroupBroadcast(a0.y, 0u)), b1, s[0]);
        s[1] = fma(vec4<f32>(subgroupBroadcast(a0.y, 1u)), b1, s[1]);
        s[2] = fma(vec4<f32>(subgroupBroadcast(a0.y, 2u)), b1, s[2]);
        s[3] = fma(vec4<f32>(subgroupBroadcast(a0.y, 3u)), b1, s[3]);
        s[4] = fma(vec4<f32>(subgroupBroadcast(a0.y, 4u)), b1, s[4]);
        s[5] = fma(vec4<f32>(subgroupBroadcast(a0.y, 5u)), b1, s[5]);
        s[6] = fma(vec4<f32>(subgroupBroadcast(a0.y, 6u)), b1, s[6]);
        s[7] = fma(vec4<f32>(subgroupBroadcast(a0.y, 7u)), b1, s[7]);
        s[8] = fma(vec4<f32>(subgroupBroadcast(a1.y, 0u)), b1, s[8]);
        s[9] = fma(vec4<f32>(subgroupBroadcast(a1.y, 1u)), b1, s[9]);
        s[10] = fma(vec4<f32>(subgroupBroadcast(a1.y, 2u)), b1, s[10]);
        s[11] = fma(vec4<f32>(subgroupBroadcast(a1.y, 3u)), b1, s[11]);
        s[12] = fma(vec4<f32>(subgroupBroadcast(a1.y, 4u)), b1, s[12]);
        s[13] = fma(vec4<f32>(subgroupBroadcast(a1.y, 5u)), b1, s[13]);
        s[14] = fma(vec4<f32>(subgroupBroadcast(a1.y, 6u)), b1, s[14]);
        s[15] = fma(vec4<f32>(subgroupBroadcast(a1.y, 7u)), b1, s[15]);
        s[0] = fma(vec4<f32>(subgroupBroadcast(a0.z, 0u)), b2, s[0]);
        s[1] = fma(vec4<f32>(subgroupBroadcast(a0.z, 1u)), b2, s[1]);
        s[2] = fma(vec4<f32>(subgroupBroadcast(a0.z, 2u)), b2, s[2]);
        s[3] = fma(vec4<f32>(subgroupBroadcast(a0.z, 3u)), b2, s[3]);
        s[4] = fma(vec4<f32>(subgroupBroadcast(a0.z, 4u)), b2, s[4]);
        s[5] = fma(vec4<f32>(subgroupBroadcast(a0.z, 5u)), b2, s[5]);
        s[6] = fma(vec4<f32>(subgroupBroadcast(a0.z, 6u)), b2, s[6]);
        s[7] = fma(vec4<f32>(subgroupBroadcast(a0.z, 7u)), b2, s[7]);
        s[8] = fma(vec4<f32>(subgroupBroadcast(a1.z, 0u)), b2, s[8]);
        s[9] = fma(vec4<f32>(subgroupBroadcast(a1.z, 1u)), b2, s[9]);
        s[10] = fma(vec4<f32>(subgroupBroadcast(a1.z, 2u)), b2, s[10]);
        s[11] = fma(vec4<f32>(subgroupBroadcast(a1.z, 3u)), b2, s[11]);
        s[12] = fma(vec4<f32>(subgroupBroadcast(a1.z, 4u)), b2, s[12]);
        s[13] = fma(vec4<f32>(subgroupBroadcast(a1.z, 5u)), b2, s[13]);
        s[14] = fma(vec4<f32>(subgroupBroadcast(a1.z, 6u)), b2, s[14]);
        s[15] = fma(vec4<f32>(subgroupBroadcast(a1.z, 7u)), b2, s[15]);
        s[0] = fma(vec4<f32>(subgroupBroadcast(a0.w, 0u)), b3, s[0]);
        s[1] = fma(vec4<f32>(subgroupBroadcast(a0.w, 1u)), b3, s[1]);
        s[2] = fma(vec4<f32>(subgroupBroadcast(a0.w, 2u)), b3, s[2]);
        s[3] = fma(vec4<f32>(subgroupBroadcast(a0.w, 3u)), b3, s[3]);
        s[4] = fma(vec4<f32>(subgroupBroadcast(a0.w, 4u)), b3, s[4]);
        s[5] = fma(vec4<f32>(subgroupBroadcast(a0.w, 5u)), b3, s[5]);
        s[6] = fma(vec4<f32>(subgroupBroadcast(a0.w, 6u)), b3, s[6]);
        s[7] = fma(vec4<f32>(subgroupBroadcast(a0.w, 7u)), b3, s[7]);
        s[8] = fma(vec4<f32>(subgroupBroadcast(a1.w, 0u)), b3, s[8]);
        s[9] = fma(vec4<f32>(subgroupBroadcast(a1.w, 1u)), b3, s[9]);
        s[10] = fma(vec4<f32>(subgroupBroadcast(a1.w, 2u)), b3, s[10]);
        s[11] = fma(vec4<f32>(subgroupBroadcast(a1.w, 3u)), b3, s[11]);
        s[12] = fma(vec4<f32>(subgroupBroadcast(a1.w, 4u)), b3, s[12]);
        s[13] = fma(vec4<f32>(subgroupBroadcast(a1.w, 5u)), b3, s[13]);
        s[14] = fma(vec4<f32>(subgroupBroadcast(a1.w, 6u)), b3, s[14]);
        s[15] = fma(vec4<f32>(subgroupBroadcast(a1.w, 7u)), b3, s[15]);
    }
    var shift = vec4<f32>();
    if BIAS == 1u {
        shift = vec4<f32>(bias[cols.x], bias[cols.y], bias[cols.z], bias[cols.w]);
    }
    store(row0 + 0u, col0, fma(vec4<f32>(p.alpha), s[0], shift));
    store(row0 + 1u, col0, fma(vec4<f32>(p.alpha), s[1], shift));
    store(row0 + 2u, col0, fma(vec4<f32>(p.alpha), s[2], shift));
    store(row0 + 3u, col0, fma(vec4<f32>(p.alpha), s[3], shift));
    store(row0 + 4u, col0, fma(vec4<f32>(p.alpha), s[4], shift));
    store(row0 + 5u, col0, fma(vec4<f32>(p.alpha), s[5], shift));
    store(row0 + 6u, col0, fma(vec4<f32>(p.alpha), s[6], shift));
    store(row0 + 7u, col0, fma(vec4<f32>(p.alpha), s[7], shift));
    store(row0 + 8u, col0, fma(vec4<f32>(p.alpha), s[8], shift));
    store(row0 + 9u, col0, fma(vec4<f32>(p.alpha), s[9], shift));
    store(row0 + 10u, col0, fma(vec4<f32>(p.alpha), s[10], shift));
    store(row0 + 11u, col0, fma(vec4<f32>(p.alpha), s[11], shift));
    store(row0 + 12u, col0, fma(vec4<f32>(p.alpha), s[12], shift));
    store(row0 + 13u, col0, fma(vec4<f32>(p.alpha), s[13], shift));
    store(row0 + 14u, col0, fma(vec4<f32>(p.alpha), s[14], shift));
    store(row0 + 15u, col0, fma(vec4<f32>(p.alpha), s[15], shift));
}

fn activate4(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(activate(v.x), activate(v.y), activate(v.z), activate(v.w));
}

fn store(row: u32, col: u32, sum: vec4<f32>) {
    if row >= p.m {
        return;
    }
    var v = activate4(sum);
    let at = (p.first + row) * p.n;
    for (var j = 0u; j < 4u; j++) {
        if col + j < p.n {
            var x = v[j];
            if RESIDUAL == 1u {
                x += residual[at + col + j];
            }
            c[at + col + j] = x;
        }
    }
}
