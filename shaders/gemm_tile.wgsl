// C[m,n] = act(alpha · op(A)·op(B) + bias) + residual, for GPUs.
//
// A tile of TILE_M×TILE_N of C per workgroup, PER_M×PER_N of it in each invocation's registers; A and B are staged
// through workgroup memory, DEPTH steps of k at a time, four neighbours in m or n to a vector. Edges are staged as zeros
// and not stored. Sums are f32 whatever B is stored as.
//
// Open constants: TILE_M, TILE_N, DEPTH, PER_M, PER_N (multiples of 4, but DEPTH), and those of the imports.
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

@compute @workgroup_size(ACROSS, DOWN)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_id) lid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row0 = wid.y * TILE_M;
    let col0 = wid.x * TILE_N;
    var sums: array<vec4<f32>, SUMS>;
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        for (var e = index; e < DEPTH * TILE_M; e += INVOCATIONS) {
            // Neighbouring invocations read neighbouring addresses, whichever way the operand is stored.
            let kk = select(e % DEPTH, e / TILE_M, TRANS_A == 1u);
            let row = select(e / DEPTH, e % TILE_M, TRANS_A == 1u);
            tile_a[kk * STRIDE_A + row / 4u][row % 4u] = load_a(row0 + row, k0 + kk);
        }
        for (var e = index; e < DEPTH * TILE_N; e += INVOCATIONS) {
            let kk = select(e / TILE_N, e % DEPTH, TRANS_B == 1u);
            let col = select(e % TILE_N, e / DEPTH, TRANS_B == 1u);
            tile_b[kk * STRIDE_B + col / 4u][col % 4u] = load_b(k0 + kk, col0 + col);
        }
        workgroupBarrier();
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
