// Operands in buffers, for the kernels that stage them through workgroup memory: four neighbours at a time, which lie along k,
// or along m or n where the operand is stored transposed. Past the edges there are zeros; who knows that a tile has none says
// so (`inside`, the same for a whole workgroup) and saves the questions.
//
// A workgroup stages a tile of TILE_M×DEPTH of A and one of DEPTH×TILE_N of B at a time. While one stretch of k is computed with,
// `ahead_a` and `ahead_b` bring the next into registers, LOADS_A and LOADS_B vectors of each invocation; who imports this text
// names INVOCATIONS, and puts them where it wants them.
//
// Open constants: TILE_M, TILE_N, DEPTH, LOADS_A, LOADS_B, TRANS_A (A is stored [k,m]), TRANS_B (B is stored [n,k]), HALF_B (B is f16, two to a word, rows padded to
// whole words), BYTE_B (B is whole numbers of 8 bits, four to a word, rows padded to whole words, times their scales), SCALED (the
// scales are those of columns), FOUR_A and FOUR_B (the operand's rows are whole fours, which are loaded at once), HALF_A (A is f16,
// in whole fours).
//# import gemm

//# if FOUR_A
//# if HALF_A
@group(0) @binding(1) var<storage, read> a: array<vec2<u32>>;
//# else
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
//# end
//# else
@group(0) @binding(1) var<storage, read> a: array<f32>;
//# end
//# if BYTE_B
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(6) var<storage, read> scales: array<f32>;

fn scale_of(row: u32) -> f32 {
    return scales[row];
}
//# else
//# if FOUR_B
//# if HALF_B
@group(0) @binding(2) var<storage, read> b: array<vec2<u32>>;
//# else
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
//# end
//# else
@group(0) @binding(2) var<storage, read> b: array<u32>;
//# end
//# end

// A[row, kk] and the next three along k, or along m where A is stored transposed.
fn fetch_a(row: u32, kk: u32, inside: bool) -> vec4<f32> {
    let line = select(row, kk, TRANS_A == 1u);
    let at = select(kk, row, TRANS_A == 1u);
    let lines = select(p.m, p.k, TRANS_A == 1u);
    let width = select(p.k, p.m, TRANS_A == 1u);
    //# if FOUR_A
    if inside || (line < lines && at < width) {
        //# if HALF_A
        let halves = a[(line * width + at) / 4u];
        return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
        //# else
        return a[(line * width + at) / 4u];
        //# end
    }
    return vec4<f32>(0.0);
    //# else
    var four = vec4<f32>(0.0);
    if line < lines {
        for (var j = 0u; j < 4u; j++) {
            if at + j < width {
                four[j] = a[line * width + at + j];
            }
        }
    }
    return four;
    //# end
}

// B[kk, col] and the next three along n, or along k where B is stored [n,k].
fn fetch_b(kk: u32, col: u32, inside: bool) -> vec4<f32> {
    let line = select(kk, col, TRANS_B == 1u);
    let at = select(col, kk, TRANS_B == 1u);
    let lines = select(p.k, p.n, TRANS_B == 1u);
    let width = select(p.n, p.k, TRANS_B == 1u);
    //# if BYTE_B
    // Rows are whole words, the last filled up with zeros.
    if inside || (line < lines && at < width) {
        let four = vec4<f32>(unpack4xI8(b[line * ((width + 3u) / 4u) + at / 4u]));
        //# if SCALED
        return four;
        //# else
        return four * scale_of(line);
        //# end
    }
    return vec4<f32>(0.0);
    //# else
    //# if FOUR_B
    if inside || (line < lines && at < width) {
        //# if HALF_B
        let halves = b[(line * width + at) / 4u];
        return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
        //# else
        return b[(line * width + at) / 4u];
        //# end
    }
    return vec4<f32>(0.0);
    //# else
    var four = vec4<f32>(0.0);
    if line < lines {
        for (var j = 0u; j < 4u; j++) {
            if at + j < width {
                //# if HALF_B
                four[j] = unpack2x16float(b[line * ((width + 1u) / 2u) + (at + j) / 2u])[(at + j) % 2u];
                //# else
                four[j] = bitcast<f32>(b[line * width + at + j]);
                //# end
            }
        }
    }
    return four;
    //# end
    //# end
}

const_assert LOADS_A * INVOCATIONS * 4u == DEPTH * TILE_M;
const_assert LOADS_B * INVOCATIONS * 4u == DEPTH * TILE_N;

// Where the e-th four of A's tile lie: row and step of k. Neighbouring invocations take neighbouring addresses, whichever way the
// operand is stored.
fn place_a(e: u32) -> vec2<u32> {
    if TRANS_A == 1u {
        return vec2<u32>(4u * (e % (TILE_M / 4u)), e / (TILE_M / 4u));
    }
    return vec2<u32>(e / (DEPTH / 4u), 4u * (e % (DEPTH / 4u)));
}

// The same of B's tile: column and step of k.
fn place_b(e: u32) -> vec2<u32> {
    if TRANS_B == 1u {
        return vec2<u32>(e / (DEPTH / 4u), 4u * (e % (DEPTH / 4u)));
    }
    return vec2<u32>(4u * (e % (TILE_N / 4u)), e / (TILE_N / 4u));
}

// An invocation's share of A's tile from row0 and k0 on; `whole` says that no tile of this workgroup has rows or columns past an
// edge.
fn ahead_a(next: ptr<function, array<vec4<f32>, LOADS_A>>, index: u32, row0: u32, k0: u32, whole: bool) {
    let inside = whole && k0 + DEPTH <= p.k;
    //# unroll
    for (var i = 0u; i < LOADS_A; i++) {
        let at_a = place_a(index + i * INVOCATIONS);
        (*next)[i] = fetch_a(row0 + at_a.x, k0 + at_a.y, inside);
    }
}

// The same of B's tile, from k0 and col0 on.
fn ahead_b(next: ptr<function, array<vec4<f32>, LOADS_B>>, index: u32, k0: u32, col0: u32, whole: bool) {
    let inside = whole && k0 + DEPTH <= p.k;
    //# unroll
    for (var i = 0u; i < LOADS_B; i++) {
        let at_b = place_b(index + i * INVOCATIONS);
        (*next)[i] = fetch_b(k0 + at_b.y, col0 + at_b.x, inside);
    }
}
