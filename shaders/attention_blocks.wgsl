
// A row of the table of blocks that attention.wgsl describes; shared by its variants.
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
