// C[m,n] = act(alpha · A·op(B) + bias) + residual by matrix units. What they take is said by who imports this text:
// gemm_matrix16.wgsl and gemm_matrix8_half.wgsl (f16 operands), gemm_matrix8.wgsl (f32 operands) name the types Element,
// MatrixA, MatrixB, MatrixC and the side of a matrix, SIDE. Sums are f32.
//
// A tile of TILE_M×TILE_N of C per workgroup, cut into parts of two by two matrices (by four where WIDE), which are shared out
// among the subgroups, whatever their size. A (f32, rounded to Element) and B are staged through workgroup memory, DEPTH steps
// of k at a time, the next ones on their way into registers meanwhile: loads of matrices are not bounds-checked, and staging
// fills edges with zeros. Sums leave through workgroup memory, a matrix of each part at a time, since a matrix's elements
// cannot be touched one by one.
//
// Open constants: TILE_M, TILE_N, DEPTH, PER_M and PER_N (an invocation's share of C), WIDE, and those of the imports.
//# import gemm_staged

const INVOCATIONS: u32 = (TILE_M / PER_M) * (TILE_N / PER_N);
const PART_M: u32 = 2u * SIDE;
const PART_N: u32 = (2u + 2u * WIDE) * SIDE;
const PARTS_ACROSS: u32 = TILE_N / PART_N;
const PARTS: u32 = (TILE_M / PART_M) * PARTS_ACROSS;
const STRIDE: u32 = DEPTH + 8u; // of A's rows and of B's
const STRIDE_C: u32 = SIDE + 4u;
const SLOT: u32 = SIDE * STRIDE_C;

var<workgroup> tile_a: array<Element, TILE_M * STRIDE>; // [row, kk]
var<workgroup> tile_b: array<Element, TILE_N * STRIDE>; // [col, kk]
var<workgroup> slots: array<f32, PARTS * SLOT>; // of each part a matrix [row, col]

fn put_a(e: u32, four: vec4<f32>) {
    let at = place_a(e);
    for (var j = 0u; j < 4u; j++) {
        tile_a[at.x * STRIDE + at.y + j] = Element(four[j]);
    }
}

fn put_b(e: u32, four: vec4<f32>) {
    let at = place_b(e);
    for (var j = 0u; j < 4u; j++) {
        let along = select(vec2<u32>(j, 0u), vec2<u32>(0u, j), TRANS_B == 1u);
        tile_b[(at.x + along.x) * STRIDE + at.y + along.y] = Element(four[j]);
    }
}

// Writes a matrix of each of `count` parts from the slots; `row` and `col` are where it lies in its part.
fn write_slots(tile: vec2<u32>, turn: u32, count: u32, row: u32, col: u32, index: u32) {
    for (var e = index; e < count * SIDE * SIDE; e += INVOCATIONS) {
        let part = turn + e / (SIDE * SIDE);
        let r = (e / SIDE) % SIDE;
        let x = e % SIDE;
        let to_row = tile.x + (part / PARTS_ACROSS) * PART_M + row + r;
        let to_col = tile.y + (part % PARTS_ACROSS) * PART_N + col + x;
        if to_row < p.m && to_col < p.n {
            let v = epilogue(slots[part * SLOT + r * STRIDE_C + x], to_row, to_col);
            //# if HALF_C
            c[to_row * p.n + to_col] = f16(v);
            //# else
            c[to_row * p.n + to_col] = v;
            //# end
        }
    }
}

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let row0 = wid.y * TILE_M;
    let col0 = wid.x * TILE_N;
    let tile = vec2<u32>(row0, col0);
    let whole = row0 + TILE_M <= p.m && col0 + TILE_N <= p.n;
    // As many subgroups as parts take one each; fewer take several, one after the other. What subgroups are left over do what
    // another does, and store nothing: two that store the same race, even with the same numbers.
    for (var turn = 0u; turn < PARTS; turn += subgroups) {
        let part = (turn + subgroup) % PARTS;
        let stores = turn + subgroup < PARTS;
        let count = min(subgroups, PARTS - turn);
        let row = (part / PARTS_ACROSS) * PART_M;
        let col = (part % PARTS_ACROSS) * PART_N;
        var c00 = MatrixC();
        var c01 = MatrixC();
        var c10 = MatrixC();
        var c11 = MatrixC();
        //# if WIDE
        var c02 = MatrixC();
        var c03 = MatrixC();
        var c12 = MatrixC();
        var c13 = MatrixC();
        //# end
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
                //# if WIDE
                let at_b2 = (col + 2u * SIDE) * STRIDE + kk;
                let at_b3 = (col + 3u * SIDE) * STRIDE + kk;
                let b2 = coopLoad<MatrixB>(&tile_b[at_b2], stride);
                let b3 = coopLoad<MatrixB>(&tile_b[at_b3], stride);
                c02 = coopMultiplyAdd(a0, b2, c02);
                c03 = coopMultiplyAdd(a0, b3, c03);
                c12 = coopMultiplyAdd(a1, b2, c12);
                c13 = coopMultiplyAdd(a1, b3, c13);
                //# end
            }
            workgroupBarrier();
        }
        let slot = part * SLOT;
        let stride_c = STRIDE_C;
        if stores {
            coopStoreT(c00, &slots[slot], stride_c);
        }
        workgroupBarrier();
        write_slots(tile, turn, count, 0u, 0u, index);
        workgroupBarrier();
        if stores {
            coopStoreT(c01, &slots[slot], stride_c);
        }
        workgroupBarrier();
        write_slots(tile, turn, count, 0u, SIDE, index);
        workgroupBarrier();
        if stores {
            coopStoreT(c10, &slots[slot], stride_c);
        }
        workgroupBarrier();
        write_slots(tile, turn, count, SIDE, 0u, index);
        workgroupBarrier();
        if stores {
            coopStoreT(c11, &slots[slot], stride_c);
        }
        workgroupBarrier();
        write_slots(tile, turn, count, SIDE, SIDE, index);
        workgroupBarrier();
        //# if WIDE
        if stores {
            coopStoreT(c02, &slots[slot], stride_c);
        }
        workgroupBarrier();
        write_slots(tile, turn, count, 0u, 2u * SIDE, index);
        workgroupBarrier();
        if stores {
            coopStoreT(c03, &slots[slot], stride_c);
        }
        workgroupBarrier();
        write_slots(tile, turn, count, 0u, 3u * SIDE, index);
        workgroupBarrier();
        if stores {
            coopStoreT(c12, &slots[slot], stride_c);
        }
        workgroupBarrier();
        write_slots(tile, turn, count, SIDE, 2u * SIDE, index);
        workgroupBarrier();
        if stores {
            coopStoreT(c13, &slots[slot], stride_c);
        }
        workgroupBarrier();
        write_slots(tile, turn, count, SIDE, 3u * SIDE, index);
        workgroupBarrier();
        //# end
    }
}
