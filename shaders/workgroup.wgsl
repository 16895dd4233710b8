// Sums and maxima over a workgroup of 64, in a fixed order; shared by the row-wise kernels. subgroup.wgsl is the other form.
//# import linear

const LANES: u32 = 64u;

var<workgroup> part: array<f32, 64>;

fn total(v: f32, lid: u32) -> f32 {
    part[lid] = v;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half = half / 2u) {
        if lid < half {
            part[lid] += part[lid + half];
        }
        workgroupBarrier();
    }
    let sum = part[0];
    // Nobody may write `part` again before all have read it.
    workgroupBarrier();
    return sum;
}

fn largest(v: f32, lid: u32) -> f32 {
    part[lid] = v;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half = half / 2u) {
        if lid < half {
            part[lid] = max(part[lid], part[lid + half]);
        }
        workgroupBarrier();
    }
    let top = part[0];
    workgroupBarrier();
    return top;
}
