// Multi-head attention over packed sequences, forward and backward, without a [T,T] matrix in memory.
//
// Rows of all sequences lie one after the other in qkv [rows, 3·width] (queries, keys, values side by side).
// `blocks` cuts them into runs of at most BLOCK rows of one sequence, eight numbers each:
//   0 first row, 1 number of rows,
//   2 first row and 3 length of the shared prefix that these rows also attend to (length 0: none),
//   4 first row and 5 length of their own sequence,
//   6 first row and 7 number of the rows that attend to these as their prefix (backward for keys and values).
// One workgroup per block and head, one invocation per row; the loop over keys (or, for dK and dV, over queries)
// is uniform across the workgroup. CAUSAL: a row sees its own sequence up to itself; the prefix it sees whole.
//
// forward keeps lse [rows, heads], the log of the softmax's denominator, from which backward rebuilds the weights.
// Open constants: HEAD (head width), CAUSAL, BLOCK (rows per workgroup).
//# import attention_blocks, linear

@group(0) @binding(2) var<storage, read> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> out: array<f32>; // dot_rows: what forward gave [rows, width]
@group(0) @binding(4) var<storage, read> dy: array<f32>;  // gradient of the output [rows, width]
@group(0) @binding(9) var<storage, read_write> shares: array<f32>; // weights: [rows, heads, keys]
@group(0) @binding(10) var<storage, read_write> dots: array<f32>; // dot_rows: [rows, heads]

// Keys that row `row` of `b` sees of its own sequence start at b.own and end before this.
fn own_end(b: Block, row: u32) -> u32 {
    return select(b.own + b.own_rows, row + 1u, CAUSAL == 1u);
}

// The last own key that any row of `b` sees, plus one.
fn block_end(b: Block) -> u32 {
    return select(b.own + b.own_rows, b.row + b.rows, CAUSAL == 1u);
}

@compute @workgroup_size(BLOCK)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let b = block_at(wid.x);
    if lid >= b.rows {
        return;
    }
    let head = wid.y;
    let width = p.heads * HEAD;
    let stride = 3u * width;
    let row = b.row + lid;
    let scale = inverseSqrt(f32(HEAD));
    var q: array<f32, HEAD>;
    var acc: array<f32, HEAD>;
    for (var d = 0u; d < HEAD; d++) {
        q[d] = qkv[row * stride + head * HEAD + d] * scale;
        acc[d] = 0.0;
    }
    var top = -3.0e38;
    var sum = 0.0;
    let seen = own_end(b, row);
    let keys = b.prefix_rows + block_end(b) - b.own;
    for (var i = 0u; i < keys; i++) {
        let in_prefix = i < b.prefix_rows;
        let j = select(b.own + i - b.prefix_rows, b.prefix + i, in_prefix);
        let at = j * stride + width + head * HEAD;
        var s = 0.0;
        for (var d = 0u; d < HEAD; d++) {
            s = fma(q[d], qkv[at + d], s);
        }
        if in_prefix || j < seen {
            let next = max(top, s);
            let shrink = exp(top - next);
            let w = exp(s - next);
            sum = fma(sum, shrink, w);
            for (var d = 0u; d < HEAD; d++) {
                acc[d] = fma(acc[d], shrink, w * qkv[at + width + d]);
            }
            top = next;
        }
    }
    for (var d = 0u; d < HEAD; d++) {
        y[row * width + head * HEAD + d] = acc[d] / sum;
    }
    lse[row * p.heads + head] = top + log(sum);
}

// shares [rows, heads, keys] = the attention weights themselves, prefix first; zeros where a key is not seen. For looking
// at them: nothing on the way of inference or training writes this matrix.
@compute @workgroup_size(BLOCK)
fn weights(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let b = block_at(wid.x);
    let head = wid.y;
    if lid >= b.rows {
        return;
    }
    let width = p.heads * HEAD;
    let stride = 3u * width;
    let row = b.row + lid;
    let scale = inverseSqrt(f32(HEAD));
    let seen = own_end(b, row);
    for (var i = 0u; i < p.keys; i++) {
        var w = 0.0;
        let in_prefix = i < b.prefix_rows;
        let j = select(b.own + i - b.prefix_rows, b.prefix + i, in_prefix);
        if in_prefix || j < seen {
            var s = 0.0;
            for (var d = 0u; d < HEAD; d++) {
                s = fma(qkv[row * stride + head * HEAD + d] * scale, qkv[j * stride + width + head * HEAD + d], s);
            }
            w = exp(s - lse[row * p.heads + head]);
        }
        shares[(row * p.heads + head) * p.keys + i] = w;
    }
}

// dots [rows, heads] = Σ_d dy·out.
@compute @workgroup_size(64)
fn dot_rows(id: Invocation) {
    let i = number_of(id);
    if i >= p.rows * p.heads {
        return;
    }
    var sum = 0.0;
    for (var d = 0u; d < HEAD; d++) {
        sum = fma(dy[i * HEAD + d], out[i * HEAD + d], sum);
    }
    dots[i] = sum;
}

// The query third of dqkv [rows, 3·width].
@compute @workgroup_size(BLOCK)
fn backward_q(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let b = block_at(wid.x);
    if lid >= b.rows {
        return;
    }
    let head = wid.y;
    let width = p.heads * HEAD;
    let stride = 3u * width;
    let row = b.row + lid;
    let scale = inverseSqrt(f32(HEAD));
    var q: array<f32, HEAD>;
    var g: array<f32, HEAD>;
    var dq: array<f32, HEAD>;
    for (var d = 0u; d < HEAD; d++) {
        q[d] = qkv[row * stride + head * HEAD + d] * scale;
        g[d] = dy[row * width + head * HEAD + d];
        dq[d] = 0.0;
    }
    let log_sum = lse[row * p.heads + head];
    let dot_row = delta[row * p.heads + head];
    let seen = own_end(b, row);
    let keys = b.prefix_rows + block_end(b) - b.own;
    for (var i = 0u; i < keys; i++) {
        let in_prefix = i < b.prefix_rows;
        let j = select(b.own + i - b.prefix_rows, b.prefix + i, in_prefix);
        let at = j * stride + width + head * HEAD;
        var s = 0.0;
        var dw = 0.0;
        for (var d = 0u; d < HEAD; d++) {
            s = fma(q[d], qkv[at + d], s);
            dw = fma(g[d], qkv[at + width + d], dw);
        }
        if in_prefix || j < seen {
            let ds = exp(s - log_sum) * (dw - dot_row) * scale;
            for (var d = 0u; d < HEAD; d++) {
                dq[d] = fma(ds, qkv[at + d], dq[d]);
            }
        }
    }
    for (var d = 0u; d < HEAD; d++) {
        dqkv[row * stride + head * HEAD + d] = dq[d];
    }
}

// The key and value thirds of dqkv [rows, 3·width]: each row gathers from the queries that see it, its own sequence's
// first, then those that have it in their prefix: a fixed order, and no two invocations write one element.
@compute @workgroup_size(BLOCK)
fn backward_kv(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let b = block_at(wid.x);
    if lid >= b.rows {
        return;
    }
    let head = wid.y;
    let width = p.heads * HEAD;
    let stride = 3u * width;
    let row = b.row + lid;
    let scale = inverseSqrt(f32(HEAD));
    var k: array<f32, HEAD>;
    var v: array<f32, HEAD>;
    var dk: array<f32, HEAD>;
    var dv: array<f32, HEAD>;
    for (var d = 0u; d < HEAD; d++) {
        k[d] = qkv[row * stride + width + head * HEAD + d] * scale;
        v[d] = qkv[row * stride + 2u * width + head * HEAD + d];
        dk[d] = 0.0;
        dv[d] = 0.0;
    }
    let first = select(b.own, b.row, CAUSAL == 1u);
    let own = b.own + b.own_rows - first;
    for (var i = 0u; i < own + b.users_rows; i++) {
        let is_own = i < own;
        let j = select(b.users + i - own, first + i, is_own);
        let at = j * stride + head * HEAD;
        let from_out = j * width + head * HEAD;
        var s = 0.0;
        var dw = 0.0;
        for (var d = 0u; d < HEAD; d++) {
            s = fma(k[d], qkv[at + d], s);
            dw = fma(v[d], dy[from_out + d], dw);
        }
        if !is_own || CAUSAL == 0u || j >= row {
            let w = exp(s - lse[j * p.heads + head]);
            let ds = w * (dw - delta[j * p.heads + head]) * scale;
            for (var d = 0u; d < HEAD; d++) {
                dk[d] = fma(ds, qkv[at + d], dk[d]);
                dv[d] = fma(w, dy[from_out + d], dv[d]);
            }
        }
    }
    for (var d = 0u; d < HEAD; d++) {
        dqkv[row * stride + width + head * HEAD + d] = dk[d];
        dqkv[row * stride + 2u * width + head * HEAD + d] = dv[d];
    }
}
