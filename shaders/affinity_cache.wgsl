// What all kernels of the cache term share: parameters, the bindings other than queries and keys, and how sums are stored.
//
// Open constants: BETAS (how many β are served by one pass over the similarities), BASE (whether `base` is added),
// KEYS (of a tile), QUERIES (of a workgroup), PER (queries of an invocation).

struct Params {
    queries: u32,
    classes: u32,
    width: u32,
    scale: f32,
    // The keys that `g` holds, from … to before …; affinity_texel.wgsl only.
    first: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> starts: array<u32>;
@group(0) @binding(4) var<storage, read> betas: array<f32>;
//# if BASE
@group(0) @binding(5) var<storage, read> base: array<f32>;
//# end
@group(0) @binding(6) var<storage, read> blocks: array<u32>; // [blocks, 2]: classes from … to before …
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

fn store(sum: f32, query: u32, class_: u32, beta: u32) {
    if query < p.queries {
        var v = p.scale * sum;
        //# if BASE
        v += base[query * p.classes + class_];
        //# end
        y[(beta * p.queries + query) * p.classes + class_] = v;
    }
}

fn store_four(sums: vec4<f32>, query: u32, class_: u32, beta: u32) {
    for (var i = 0u; i < 4u; i++) {
        store(sums[i], query + i, class_, beta);
    }
}
