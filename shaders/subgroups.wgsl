// Sums and maxima over a workgroup of 64 by subgroups of any size: two barriers instead of seven. Another form of
// workgroup.wgsl. Nothing is assumed of which invocations are a subgroup, only that their number divides 64.
//# import linear

const LANES: u32 = 64u;

var<workgroup> part: array<f32, 64>;

fn total(v: f32, lid: u32) -> f32 {
    let sum = subgroupAdd(v);
    // One invocation of each subgroup keeps its sum, the others nothing.
    part[lid] = select(0.0, sum, subgroupBroadcastFirst(lid) == lid);
    workgroupBarrier();
    let size = subgroupAdd(1u);
    var all = 0.0;
    for (var i = subgroupExclusiveAdd(1u); i < LANES; i += size) {
        all += part[i];
    }
    all = subgroupAdd(all);
    // Nobody may write `part` again before all have read it.
    workgroupBarrier();
    return all;
}

fn largest(v: f32, lid: u32) -> f32 {
    part[lid] = subgroupMax(v);
    workgroupBarrier();
    let size = subgroupAdd(1u);
    var top = v;
    for (var i = subgroupExclusiveAdd(1u); i < LANES; i += size) {
        top = max(top, part[i]);
    }
    top = subgroupMax(top);
    workgroupBarrier();
    return top;
}
