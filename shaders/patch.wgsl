// The two data movements of CLIP's patch embedding; the convolution itself is a GEMM between them.
//
// unfold: pixels [batch,3,size,size] → rows [batch·grid², 3·patch²], in the order of the convolution's weight.
// assemble: y[b,0] = class + position[0]; y[b,t] = patches[b,t−1] + position[t]; y is [batch, grid²+1, width].

struct Params {
    batch: u32,
    size: u32,
    side: u32, // of a patch
    grid: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // unfold: pixels; assemble: patches
@group(0) @binding(2) var<storage, read> class_embedding: array<f32>;
@group(0) @binding(3) var<storage, read> position: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn unfold(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = (wid.y * nwg.x + wid.x) * 64u + lid;
    let area = p.side * p.side;
    let depth = 3u * area;
    if i >= p.batch * p.grid * p.grid * depth {
        return;
    }
    let row = i / depth;
    let within = i % depth;
    let image = row / (p.grid * p.grid);
    let cell = row % (p.grid * p.grid);
    let channel = within / area;
    let py = (cell / p.grid) * p.side + (within % area) / p.side;
    let px = (cell % p.grid) * p.side + within % p.side;
    y[i] = x[((image * 3u + channel) * p.size + py) * p.size + px];
}

@compute @workgroup_size(64)
fn assemble(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = (wid.y * nwg.x + wid.x) * 64u + lid;
    let patches = p.grid * p.grid;
    let tokens = patches + 1u;
    if i >= p.batch * tokens * p.width {
        return;
    }
    let col = i % p.width;
    let token = (i / p.width) % tokens;
    let image = i / (p.width * tokens);
    if token == 0u {
        y[i] = class_embedding[col] + position[col];
    } else {
        y[i] = x[(image * patches + token - 1u) * p.width + col] + position[token * p.width + col];
    }
}
