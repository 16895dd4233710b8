// C[m,n] = act(alpha · op(A)·op(B) + bias) + residual, for GPUs.
//
// A tile of TILE_M×TILE_N of C per workgroup, PER_M×PER_N of it in each invocation's registers; A and B are staged
// through workgroup memory, DEPTH steps of k at a time, four neighbours in m or n to a vector. While one stretch of k is
// computed with, the next is on its way into registers. Edges are staged as zeros and not stored. Sums are f32 whatever B is
// stored as.
//
// Open constants: TILE_M, TILE_N, DEPTH, PER_M, PER_N (multiples of 4), and those of the imports.
//# import gemm_staged

const ACROSS: u32 = TILE_N / PER_N;
const DOWN: u32 = TILE_M / PER_M;
const INVOCATIONS: u32 = ACROSS * DOWN;
// One vector more than needed, so that neighbouring steps of k fall into different banks.
const STRIDE_A: u32 = TILE_M / 4u + 1u;
const STRIDE_B: u32 = TILE_N / 4u + 1u;
const SUMS: u32 = PER_M * PER_N / 4u;

var<workgroup> tile_a: array<vec4<f32>, DEPTH * STRIDE_A>;
var<workgroup> tile_b: array<vec4<f32>, DEPTH * STRIDE_B>;

fn put_a(e: u32, four: vec4<f32>) {
    let at = place_a(e);
    if TRANS_A == 1u {
        tile_a[at.y * STRIDE_A + at.x / 4u] = four;
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        tile_a[(at.y + j) * STRIDE_A + at.x / 4u][at.x % 4u] = four[j];
    }
}

fn put_b(e: u32, four: vec4<f32>) {
    let at = place_b(e);
    if TRANS_B == 0u {
        tile_b[at.y * STRIDE_B + at.x / 4u] = four;
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        tile_b[(at.y + j) * STRIDE_B + at.x / 4u][at.x % 4u] = four[j];
    }
}

@compute @workgroup_size(ACROSS, DOWN)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_id) lid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row0 = wid.y * TILE_M;
    let col0 = wid.x * TILE_N;
    let whole = row0 + TILE_M <= p.m && col0 + TILE_N <= p.n;
    var sums: array<vec4<f32>, SUMS>;
    var next_a: array<vec4<f32>, LOADS_A>;
    var next_b: array<vec4<f32>, LOADS_B>;
    ahead_a(&next_a, index, row0, 0u, whole);
    ahead_b(&next_b, index, 0u, col0, whole);
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        //# unroll
        for (var i = 0u; i < LOADS_A; i++) {
            put_a(index + i * INVOCATIONS, next_a[i]);
        }
        //# unroll
        for (var i = 0u; i < LOADS_B; i++) {
            put_b(index + i * INVOCATIONS, next_b[i]);
        }
        workgroupBarrier();
        let k1 = k0 + DEPTH;
        if k1 < p.k {
            ahead_a(&next_a, index, row0, k1, whole);
            ahead_b(&next_b, index, k1, col0, whole);
        }
        for (var kk = 0u; kk < DEPTH; kk++) {
            var vb: array<vec4<f32>, PER_N / 4u>;
            for (var j = 0u; j < PER_N / 4u; j++) {
                // An invocation's vectors lie ACROSS apart, so that neighbours read neighbouring ones.
                vb[j] = tile_b[kk * STRIDE_B + j * ACROSS + lid.x];
            }
            for (var i = 0u; i < PER_M / 4u; i++) {
                let va = tile_a[kk * STRIDE_A + i * DOWN + lid.y];
                for (var j = 0u; j < PER_N / 4u; j++) {
                    let s = 4u * (i * (PER_N / 4u) + j);
                    sums[s] = fma(vec4<f32>(va.x), vb[j], sums[s]);
                    sums[s + 1u] = fma(vec4<f32>(va.y), vb[j], sums[s + 1u]);
                    sums[s + 2u] = fma(vec4<f32>(va.z), vb[j], sums[s + 2u]);
                    sums[s + 3u] = fma(vec4<f32>(va.w), vb[j], sums[s + 3u]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < PER_M / 4u; i++) {
        for (var j = 0u; j < PER_N / 4u; j++) {
            for (var r = 0u; r < 4u; r++) {
                let row = row0 + 4u * (i * DOWN + lid.y) + r;
                let col = col0 + 4u * (j * ACROSS + lid.x);
                let v = sums[4u * (i * (PER_N / 4u) + j) + r];
                for (var x = 0u; x < 4u; x++) {
                    if row < p.m && col + x < p.n {
                        c[row * p.n + col + x] = epilogue(v[x], row, col + x);
                    }
                }
            }
        }
    }
}
