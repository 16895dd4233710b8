// Invocations in a row (`Grid::Linear`, `Grid::cover`). A row longer than one dimension takes is folded over two, so there
// may be more invocations than were asked for: kernels ignore numbers past the end.

struct Invocation {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
}

// The number of its workgroup.
fn workgroup_of(id: Invocation) -> u32 {
    return id.workgroup.y * id.workgroups.x + id.workgroup.x;
}

// Its own number, in workgroups of 64.
fn number_of(id: Invocation) -> u32 {
    return workgroup_of(id) * 64u + id.lid;
}
