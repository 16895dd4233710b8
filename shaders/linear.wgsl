// Invocations in a row (`Grid::Linear`, `Grid::cover`). A row longer than one dimension takes is folded over two, so there
// may be more invocations than were asked for: kernels ignore numbers past the end.

// What barriers and subgroups depend on must be the same for a whole workgroup, and WGSL takes a struct of inputs for as varied
// as the most varied of them: kernels with either take a Workgroup, and their own number in it beside it.

struct Workgroup {
    @builtin(workgroup_id) number: vec3<u32>,
    @builtin(num_workgroups) all: vec3<u32>,
}

struct Invocation {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
}

// The number of a workgroup.
fn workgroup_of(id: Workgroup) -> u32 {
    return id.number.y * id.all.x + id.number.x;
}

// The number of an invocation, in workgroups of 64.
fn number_of(id: Invocation) -> u32 {
    return workgroup_of(Workgroup(id.workgroup, id.workgroups)) * 64u + id.lid;
}
