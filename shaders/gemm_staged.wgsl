// Operands in buffers, for the kernels that stage them through workgroup memory: four neighbours at a time, which lie along k,
// or along m or n where the operand is stored transposed. Past the edges there are zeros; who knows that a tile has none says
// so (`inside`, the same for a whole workgroup) and saves the questions.
//
// Open constants: TRANS_A (A is stored [k,m]), TRANS_B (B is stored [n,k]), HALF_B (B is f16, two to a word, rows padded to
// whole words), FOUR_A and FOUR_B (the operand's rows are whole fours, which are loaded at once).
//# import gemm

//# if FOUR_A
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
//# else
@group(0) @binding(1) var<storage, read> a: array<f32>;
//# end
//# if FOUR_B
//# if HALF_B
@group(0) @binding(2) var<storage, read> b: array<vec2<u32>>;
//# else
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
//# end
//# else
@group(0) @binding(2) var<storage, read> b: array<u32>;
//# end

// A[row, kk] and the next three along k, or along m where A is stored transposed.
fn fetch_a(row: u32, kk: u32, inside: bool) -> vec4<f32> {
    let line = select(row, kk, TRANS_A == 1u);
    let at = select(kk, row, TRANS_A == 1u);
    let lines = select(p.m, p.k, TRANS_A == 1u);
    let width = select(p.k, p.m, TRANS_A == 1u);
    //# if FOUR_A
    if inside || (line < lines && at < width) {
        return a[(line * width + at) / 4u];
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
}
