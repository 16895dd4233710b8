// Histograms of the similarities of pairs: x [rows, cols] holds the cosine similarities of the features first_row… and
// first_col… of one list; each pair i < j of the list is counted once, among same-class or different-class pairs.
// counts [2, bins]: same-class first; bin k of `bins` covers −1 + 2k/bins and up. Integer atomics: counts do not
// depend on the order in which they are made.
// Open constant: BINS.
//# import linear

struct Params {
    rows: u32,
    cols: u32,
    first_row: u32,
    first_col: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> row_labels: array<u32>;
@group(0) @binding(3) var<storage, read> col_labels: array<u32>;
@group(0) @binding(4) var<storage, read_write> counts: array<atomic<u32>>;

var<workgroup> tally: array<atomic<u32>, 2 * BINS>;

// One workgroup per row.
@compute @workgroup_size(64)
fn main(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    for (var k = lid; k < 2u * BINS; k += 64u) {
        atomicStore(&tally[k], 0u);
    }
    workgroupBarrier();
    if row < p.rows {
        let label = row_labels[row];
        for (var col = lid; col < p.cols; col += 64u) {
            if p.first_row + row < p.first_col + col {
                let at = clamp((x[row * p.cols + col] + 1.0) * (0.5 * f32(BINS)), 0.0, f32(BINS) - 1.0);
                let other = select(BINS, 0u, label == col_labels[col]);
                atomicAdd(&tally[other + u32(at)], 1u);
            }
        }
    }
    workgroupBarrier();
    for (var k = lid; k < 2u * BINS; k += 64u) {
        let count = atomicLoad(&tally[k]);
        if count > 0u {
            atomicAdd(&counts[k], count);
        }
    }
}
