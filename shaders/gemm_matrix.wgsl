// C[m,n] = act(alpha · A·op(B) + bias) + residual by matrix units. What they take is said by who imports this text:
// gemm_matrix16.wgsl and gemm_matrix8_half.wgsl (f16 operands), gemm_matrix8.wgsl (f32 operands) name the types Element,
// MatrixA, MatrixB, MatrixC and the side of a matrix, SIDE. Sums are f32.
//
// A tile of (4·SIDE)² of C per workgroup of 128 invocations: four quarters, each 2×2 matrices, shared out among the
// subgroups, whatever their size. A (f32, rounded to Element) and B are staged through workgroup memory, DEPTH steps of k at
// a time: loads of matrices are not bounds-checked, and staging fills edges with zeros. The sums go through workgroup
// memory too, since a matrix's elements cannot be touched one by one.
//
// Open constants: TILE_M, TILE_N, DEPTH, PER_M and PER_N (an invocation's share of C), and those of the imports.
//# import gemm_staged

const TILE: u32 = TILE_M;
const_assert TILE_M == 4u * SIDE && TILE_N == TILE_M;
const INVOCATIONS: u32 = (TILE_M / PER_M) * (TILE_N / PER_N);
const STRIDE: u32 = DEPTH + 8u; // of A's rows and of B's
const STRIDE_C: u32 = TILE + 4u;

var<workgroup> tile_a: array<Element, TILE * STRIDE>; // [row, kk]
var<workgroup> tile_b: array<Element, TILE * STRIDE>; // [col, kk]
var<workgroup> tile_c: array<f32, TILE * STRIDE_C>;

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let row0 = wid.y * TILE;
    let col0 = wid.x * TILE;
    // Four subgroups take a quarter each; fewer take several, one after the other.
    for (var first = 0u; first < 4u; first += subgroups) {
        let quarter = first + subgroup;
        let row = (quarter / 2u % 2u) * 2u * SIDE;
        let col = (quarter % 2u) * 2u * SIDE;
        var c00 = MatrixC();
        var c01 = MatrixC();
        var c10 = MatrixC();
        var c11 = MatrixC();
        for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
            for (var e = index; e < TILE * DEPTH; e += INVOCATIONS) {
                let r = e / DEPTH;
                let kk = e % DEPTH;
                tile_a[r * STRIDE + kk] = Element(load_a(row0 + r, k0 + kk));
            }
            for (var e = index; e < TILE * DEPTH; e += INVOCATIONS) {
                // Neighbouring invocations read neighbouring addresses, whichever way B is stored.
                let kk = select(e / TILE, e % DEPTH, TRANS_B == 1u);
                let x = select(e % TILE, e / DEPTH, TRANS_B == 1u);
                tile_b[x * STRIDE + kk] = Element(load_b(k0 + kk, col0 + x));
            }
            workgroupBarrier();
            for (var kk = 0u; kk < DEPTH; kk += SIDE) {
                // Bound with `let`: an inline expression as a stride makes some compilers give up.
                let stride = STRIDE;
                let at_a0 = row * STRIDE + kk;
                let at_a1 = (row + SIDE) * STRIDE + kk;
                let at_b0 = col * STRIDE + kk;
                let at_b1 = (col + SIDE) * STRIDE + kk;
                // A is row-major; B lies transposed, which is what a column-major load expects.
                let a0 = coopLoadT<MatrixA>(&tile_a[at_a0], stride);
                let a1 = coopLoadT<MatrixA>(&tile_a[at_a1], stride);
                let b0 = coopLoad<MatrixB>(&tile_b[at_b0], stride);
                let b1 = coopLoad<MatrixB>(&tile_b[at_b1], stride);
                c00 = coopMultiplyAdd(a0, b0, c00);
                c01 = coopMultiplyAdd(a0, b1, c01);
                c10 = coopMultiplyAdd(a1, b0, c10);
                c11 = coopMultiplyAdd(a1, b1, c11);
            }
            workgroupBarrier();
        }
        let stride_c = STRIDE_C;
        let at00 = row * STRIDE_C + col;
        let at01 = row * STRIDE_C + col + SIDE;
        let at10 = (row + SIDE) * STRIDE_C + col;
        let at11 = (row + SIDE) * STRIDE_C + col + SIDE;
        coopStoreT(c00, &tile_c[at00], stride_c);
        coopStoreT(c01, &tile_c[at01], stride_c);
        coopStoreT(c10, &tile_c[at10], stride_c);
        coopStoreT(c11, &tile_c[at11], stride_c);
    }
    workgroupBarrier();
    for (var e = index; e < TILE * TILE; e += INVOCATIONS) {
        let row = row0 + e / TILE;
        let col = col0 + e % TILE;
        if row < p.m && col < p.n {
            c[row * p.n + col] = epilogue(tile_c[(e / TILE) * STRIDE_C + e % TILE], row, col);
        }
    }
}
