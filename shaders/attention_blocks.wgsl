// What both forms of attention share: parameters, the table of blocks that attention.wgsl describes, and the bindings other
// than queries, keys, values and the output's gradient.

struct Params {
    rows: u32,
    heads: u32,
    blocks: u32,
    keys: u32, // `weights` only: row length of its output
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> blocks: array<u32>;
@group(0) @binding(5) var<storage, read> delta: array<f32>;     // Σ dy·out by row and head
@group(0) @binding(6) var<storage, read_write> lse: array<f32>; // [rows, heads]
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<f32>;

// A row of the table.
struct Block {
    row: u32,
    rows: u32,
    prefix: u32,
    prefix_rows: u32,
    own: u32,
    own_rows: u32,
    users: u32,
    users_rows: u32,
}

fn block_at(i: u32) -> Block {
    let o = i * 8u;
    return Block(
        blocks[o], blocks[o + 1u], blocks[o + 2u], blocks[o + 3u],
        blocks[o + 4u], blocks[o + 5u], blocks[o + 6u], blocks[o + 7u],
    );
}
