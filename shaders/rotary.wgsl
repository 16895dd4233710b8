// Rotary positions: queries and keys of qkv [rows, 3·width], turned in place, pair by pair; values stay as they are.
//
// The pair (2i, 2i+1) of a head is turned by the i-th angle of its row's token: `angles` [tokens, HEAD] holds cosine and
// sine of each, side by side. Rows are those of whole pictures, one after the other. With `back` = 1 they are turned back,
// which is the gradient's way.
//# import linear

struct Params {
    rows: u32,
    tokens: u32,
    width: u32,
    head: u32,
    back: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> angles: array<f32>;
@group(0) @binding(2) var<storage, read_write> qkv: array<f32>;

@compute @workgroup_size(64)
fn turn(id: Invocation) {
    let i = number_of(id);
    // Pairs of queries and keys side by side: as many as a row of width has numbers.
    if i >= p.rows * p.width {
        return;
    }
    let row = i / p.width;
    let col = (i % p.width) * 2u;
    let angle = (row % p.tokens) * p.head + col % p.head;
    let cosine = angles[angle];
    let sine = select(angles[angle + 1u], -angles[angle + 1u], p.back == 1u);
    let at = row * 3u * p.width + col;
    let a = qkv[at];
    let b = qkv[at + 1u];
    qkv[at] = a * cosine - b * sine;
    qkv[at + 1u] = b * cosine + a * sine;
}
