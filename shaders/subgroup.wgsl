// Sums and maxima over a workgroup of 8 that is one subgroup: for drivers that run on the CPU, where workgroup memory is
// slow and a barrier slower. The other form of workgroup.wgsl.
//# import linear

const LANES: u32 = 8u;

fn total(v: f32, lid: u32) -> f32 {
    return subgroupAdd(v);
}

fn largest(v: f32, lid: u32) -> f32 {
    return subgroupMax(v);
}
