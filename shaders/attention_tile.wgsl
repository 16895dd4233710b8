// Attention for GPUs, as attention.wgsl defines it, in tiles: a block of rows against KEYS of what it attends to at a time (or,
// for dK and dV, of what attends to it), both in workgroup memory. Four invocations share a row: each computes four of its
// scores, and a quarter of what the row gathers.
//
// Open constants: HEAD (head width, a multiple of 16), CAUSAL, BLOCK (rows per workgroup), HALF (what forward gives is f16).
//# import attention_blocks

@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> dy: array<vec4<f32>>; // gradient of the output [rows, width]
//# if HALF
@group(0) @binding(9) var<storage, read_write> out: array<vec2<u32>>; // forward: [rows, width], two f16 to a word
//# else
@group(0) @binding(9) var<storage, read_write> out: array<vec4<f32>>; // forward: [rows, width]
//# end
@group(0) @binding(10) var<storage, read_write> dqkv_fours: array<vec4<f32>>; // backward: [rows, 3·width]

const KEYS: u32 = 16u;
const INVOCATIONS: u32 = BLOCK * 4u;
const FOURS: u32 = HEAD / 4u;  // vectors of a head
const SHARE: u32 = HEAD / 16u; // of those, an invocation's
const STRIDE: u32 = FOURS + 1u;
const STRIDE_S: u32 = KEYS + 1u;
const HIDDEN: f32 = -3.0e38;

var<workgroup> rows_a: array<vec4<f32>, BLOCK * STRIDE>;
var<workgroup> rows_b: array<vec4<f32>, BLOCK * STRIDE>;
var<workgroup> keys_a: array<vec4<f32>, KEYS * STRIDE>;
var<workgroup> keys_b: array<vec4<f32>, KEYS * STRIDE>;
var<workgroup> scores_a: array<f32, BLOCK * STRIDE_S>;
var<workgroup> scores_b: array<f32, BLOCK * STRIDE_S>;

// The row of the i-th key that rows of `b` attend to, prefix first.
fn key_row(b: Block, i: u32) -> u32 {
    return select(b.own + i - b.prefix_rows, b.prefix + i, i < b.prefix_rows);
}

// Keys that rows of `b` see, some of them.
fn keys_of(b: Block) -> u32 {
    return b.prefix_rows + select(b.own + b.own_rows, b.row + b.rows, CAUSAL == 1u) - b.own;
}

// Whether the row sees the i-th key.
fn sees(b: Block, row: u32, i: u32, keys: u32) -> bool {
    return i < keys && (CAUSAL == 0u || i < b.prefix_rows || key_row(b, i) <= row);
}

// The f-th vector of a head's part of a row of qkv: 0 queries, 1 keys, 2 values.
fn four_of(row: u32, third: u32, head: u32, f: u32) -> vec4<f32> {
    return qkv[(row * 3u + third) * p.heads * FOURS + head * FOURS + f];
}

// Products of a row with four keys, the first at vector `at`. Written out: FXC unrolls what assigns to a part of a vector by
// number, and all that it stands in.
fn four_scores_a(mine: u32, at: u32) -> vec4<f32> {
    var s = vec4<f32>(0.0);
    for (var f = 0u; f < FOURS; f++) {
        let v = rows_a[mine * STRIDE + f];
        s += vec4<f32>(
            dot(v, keys_a[at + f]),
            dot(v, keys_a[at + STRIDE + f]),
            dot(v, keys_a[at + 2u * STRIDE + f]),
            dot(v, keys_a[at + 3u * STRIDE + f]),
        );
    }
    return s;
}

// The same of the second rows and keys.
fn four_scores_b(mine: u32, at: u32) -> vec4<f32> {
    var s = vec4<f32>(0.0);
    for (var f = 0u; f < FOURS; f++) {
        let v = rows_b[mine * STRIDE + f];
        s += vec4<f32>(
            dot(v, keys_b[at + f]),
            dot(v, keys_b[at + STRIDE + f]),
            dot(v, keys_b[at + 2u * STRIDE + f]),
            dot(v, keys_b[at + 3u * STRIDE + f]),
        );
    }
    return s;
}

@compute @workgroup_size(INVOCATIONS)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let b = block_at(wid.x);
    let head = wid.y;
    let scale = inverseSqrt(f32(HEAD));
    for (var e = lid; e < BLOCK * FOURS; e += INVOCATIONS) {
        let r = e / FOURS;
        if r < b.rows {
            rows_a[r * STRIDE + e % FOURS] = four_of(b.row + r, 0u, head, e % FOURS) * scale;
        }
    }
    let mine = lid / 4u;
    let quarter = lid % 4u;
    let row = b.row + mine;
    let keys = keys_of(b);
    var acc: array<vec4<f32>, SHARE>;
    var top = HIDDEN;
    var sum = 0.0;
    for (var k0 = 0u; k0 < keys; k0 += KEYS) {
        for (var e = lid; e < KEYS * FOURS; e += INVOCATIONS) {
            let i = k0 + e / FOURS;
            if i < keys {
                keys_a[(e / FOURS) * STRIDE + e % FOURS] = four_of(key_row(b, i), 1u, head, e % FOURS);
            }
        }
        workgroupBarrier();
        let s = four_scores_a(mine, quarter * 4u * STRIDE);
        for (var x = 0u; x < 4u; x++) {
            let i = quarter * 4u + x;
            scores_a[mine * STRIDE_S + i] = select(HIDDEN, s[x], sees(b, row, k0 + i, keys));
        }
        workgroupBarrier();
        // The keys' place is free for the values.
        for (var e = lid; e < KEYS * FOURS; e += INVOCATIONS) {
            let i = k0 + e / FOURS;
            if i < keys {
                keys_a[(e / FOURS) * STRIDE + e % FOURS] = four_of(key_row(b, i), 2u, head, e % FOURS);
            }
        }
        var next = top;
        for (var i = 0u; i < KEYS; i++) {
            next = max(next, scores_a[mine * STRIDE_S + i]);
        }
        workgroupBarrier();
        let shrink = exp(top - next);
        sum *= shrink;
        for (var y = 0u; y < SHARE; y++) {
            acc[y] *= shrink;
        }
        for (var i = 0u; i < min(KEYS, keys - k0); i++) {
            let score = scores_a[mine * STRIDE_S + i];
            let w = select(exp(score - next), 0.0, score == HIDDEN);
            sum += w;
            for (var y = 0u; y < SHARE; y++) {
                acc[y] = fma(vec4<f32>(w), keys_a[i * STRIDE + quarter * SHARE + y], acc[y]);
            }
        }
        top = next;
        workgroupBarrier();
    }
    if mine < b.rows {
        for (var y = 0u; y < SHARE; y++) {
            let mixed = acc[y] / sum;
            //# if HALF
            out[(row * p.heads + head) * FOURS + quarter * SHARE + y] = vec2<u32>(pack2x16float(mixed.xy), pack2x16float(mixed.zw));
            //# else
            out[(row * p.heads + head) * FOURS + quarter * SHARE + y] = mixed;
            //# end
        }
        if quarter == 0u {
            lse[row * p.heads + head] = top + log(sum);
        }
    }
}

// The query third of dqkv [rows, 3·width].
@compute @workgroup_size(INVOCATIONS)
fn backward_q(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let b = block_at(wid.x);
    let head = wid.y;
    let scale = inverseSqrt(f32(HEAD));
    for (var e = lid; e < BLOCK * FOURS; e += INVOCATIONS) {
        let r = e / FOURS;
        if r < b.rows {
            rows_a[r * STRIDE + e % FOURS] = four_of(b.row + r, 0u, head, e % FOURS) * scale;
            rows_b[r * STRIDE + e % FOURS] = dy[((b.row + r) * p.heads + head) * FOURS + e % FOURS];
        }
    }
    let mine = lid / 4u;
    let quarter = lid % 4u;
    let row = b.row + mine;
    // Rows past the end compute what nobody reads.
    let from_row = min(row, b.row + b.rows - 1u) * p.heads + head;
    let log_sum = lse[from_row];
    let dot_row = delta[from_row];
    let keys = keys_of(b);
    var dq: array<vec4<f32>, SHARE>;
    for (var k0 = 0u; k0 < keys; k0 += KEYS) {
        for (var e = lid; e < KEYS * FOURS; e += INVOCATIONS) {
            let i = k0 + e / FOURS;
            if i < keys {
                let j = key_row(b, i);
                keys_a[(e / FOURS) * STRIDE + e % FOURS] = four_of(j, 1u, head, e % FOURS);
                keys_b[(e / FOURS) * STRIDE + e % FOURS] = four_of(j, 2u, head, e % FOURS);
            }
        }
        workgroupBarrier();
        let s = four_scores_a(mine, quarter * 4u * STRIDE);
        let dw = four_scores_b(mine, quarter * 4u * STRIDE);
        for (var x = 0u; x < 4u; x++) {
            let i = quarter * 4u + x;
            let ds = exp(s[x] - log_sum) * (dw[x] - dot_row) * scale;
            scores_a[mine * STRIDE_S + i] = select(0.0, ds, sees(b, row, k0 + i, keys));
        }
        workgroupBarrier();
        for (var i = 0u; i < min(KEYS, keys - k0); i++) {
            let ds = scores_a[mine * STRIDE_S + i];
            for (var y = 0u; y < SHARE; y++) {
                dq[y] = fma(vec4<f32>(ds), keys_a[i * STRIDE + quarter * SHARE + y], dq[y]);
            }
        }
        workgroupBarrier();
    }
    if mine < b.rows {
        for (var y = 0u; y < SHARE; y++) {
            dqkv_fours[row * 3u * p.heads * FOURS + head * FOURS + quarter * SHARE + y] = dq[y];
        }
    }
}

// The key and value thirds of dqkv: each row gathers from the queries that see it, its own sequence's first, then those that
// have it in their prefix. Here the "keys" of a tile are queries.
@compute @workgroup_size(INVOCATIONS)
fn backward_kv(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let b = block_at(wid.x);
    let head = wid.y;
    let scale = inverseSqrt(f32(HEAD));
    for (var e = lid; e < BLOCK * FOURS; e += INVOCATIONS) {
        let r = e / FOURS;
        if r < b.rows {
            rows_a[r * STRIDE + e % FOURS] = four_of(b.row + r, 1u, head, e % FOURS) * scale;
            rows_b[r * STRIDE + e % FOURS] = four_of(b.row + r, 2u, head, e % FOURS);
        }
    }
    let mine = lid / 4u;
    let quarter = lid % 4u;
    let row = b.row + mine;
    let first = select(b.own, b.row, CAUSAL == 1u);
    let own = b.own + b.own_rows - first;
    let queries = own + b.users_rows;
    var dk: array<vec4<f32>, SHARE>;
    var dv: array<vec4<f32>, SHARE>;
    for (var k0 = 0u; k0 < queries; k0 += KEYS) {
        for (var e = lid; e < KEYS * FOURS; e += INVOCATIONS) {
            let i = k0 + e / FOURS;
            if i < queries {
                let j = select(b.users + i - own, first + i, i < own);
                keys_a[(e / FOURS) * STRIDE + e % FOURS] = four_of(j, 0u, head, e % FOURS);
                keys_b[(e / FOURS) * STRIDE + e % FOURS] = dy[(j * p.heads + head) * FOURS + e % FOURS];
            }
        }
        workgroupBarrier();
        let s = four_scores_a(mine, quarter * 4u * STRIDE);
        let dw = four_scores_b(mine, quarter * 4u * STRIDE);
        for (var x = 0u; x < 4u; x++) {
            let i = k0 + quarter * 4u + x;
            let is_own = i < own;
            let j = select(b.users + i - own, first + i, is_own);
            let counts = i < queries && (CAUSAL == 0u || !is_own || j >= row);
            let from_row = select(0u, j * p.heads + head, i < queries);
            let w = exp(s[x] - lse[from_row]);
            scores_a[mine * STRIDE_S + quarter * 4u + x] = select(0.0, w, counts);
            scores_b[mine * STRIDE_S + quarter * 4u + x] = select(0.0, w * (dw[x] - delta[from_row]) * scale, counts);
        }
        workgroupBarrier();
        for (var i = 0u; i < min(KEYS, queries - k0); i++) {
            let w = scores_a[mine * STRIDE_S + i];
            let ds = scores_b[mine * STRIDE_S + i];
            for (var y = 0u; y < SHARE; y++) {
                dk[y] = fma(vec4<f32>(ds), keys_a[i * STRIDE + quarter * SHARE + y], dk[y]);
                dv[y] = fma(vec4<f32>(w), keys_b[i * STRIDE + quarter * SHARE + y], dv[y]);
            }
        }
        workgroupBarrier();
    }
    if mine < b.rows {
        for (var y = 0u; y < SHARE; y++) {
            let to = (row * 3u + 1u) * p.heads * FOURS + head * FOURS + quarter * SHARE + y;
            dqkv_fours[to] = dk[y];
            dqkv_fours[to + p.heads * FOURS] = dv[y];
        }
    }
}
