// Attention as in attention.wgsl, with queries, keys and values (and the output's gradient) read from textures, for drivers
// that run on the CPU in subgroups of eight.
//
// There a texel of four words is fetched six to eight times as fast as they are read from a buffer, and a broadcast costs
// next to nothing. One workgroup of eight invocations, which are one subgroup, per block of at most eight rows and per
// head: each fetches another key (or, for dK and dV, another query) and hands it to all. Invocations without a row of
// their own work on the last one and store nothing: a broadcast needs them all.
//
// Open constants: HEAD (head width, a multiple of 4), CAUSAL.
//# import attention_blocks

@group(0) @binding(2) var qkv: texture_2d<f32>;
@group(0) @binding(4) var dy: texture_2d<f32>; // gradient of the output [rows, width]

const QUADS: u32 = HEAD / 4u;
const LOWEST: f32 = -3.0e38;

// The eight invocations' numbers, in the order of the invocations.
alias Eight = mat2x4<f32>;

// v · w of each invocation.
fn dots(v: vec4<f32>, w: vec4<f32>) -> Eight {
    var all: Eight;
    //# unroll
    for (var i = 0u; i < 8u; i++) {
        all[i / 4u][i % 4u] = dot(v, subgroupBroadcast(w, i));
    }
    return all;
}

// Σ over the invocations of factor · w.
fn weighted(f: Eight, w: vec4<f32>) -> vec4<f32> {
    var s = f[0].x * subgroupBroadcast(w, 0u);
    //# unroll
    for (var i = 1u; i < 8u; i++) {
        s = fma(vec4<f32>(f[i / 4u][i % 4u]), subgroupBroadcast(w, i), s);
    }
    return s;
}

// The eight invocations' v.
fn all_of(v: f32) -> Eight {
    var all: Eight;
    //# unroll
    for (var i = 0u; i < 8u; i++) {
        all[i / 4u][i % 4u] = subgroupBroadcast(v, i);
    }
    return all;
}

// Keys that the rows of a block see between them: the prefix's, then their own sequence's.
fn keys_of(b: Block) -> u32 {
    let end = select(b.own + b.own_rows, b.row + b.rows, CAUSAL == 1u);
    return b.prefix_rows + end - b.own;
}

// Which of the keys i…i+7 row `row` sees: those of the prefix, and of its own sequence those up to itself where causal.
fn seen(b: Block, row: u32, i: u32, keys: u32) -> array<vec4<bool>, 2> {
    let own = select(b.own_rows, row + 1u - b.own, CAUSAL == 1u);
    let end = vec4<u32>(min(b.prefix_rows + own, keys));
    let first = vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u);
    return array<vec4<bool>, 2>(first < end, first + 4u < end);
}

fn row_of_key(b: Block, i: u32) -> u32 {
    return select(b.own + i - b.prefix_rows, b.prefix + i, i < b.prefix_rows);
}

fn texel(x: u32, row: u32) -> vec4<f32> {
    return textureLoad(qkv, vec2<u32>(x, row), 0);
}

@compute @workgroup_size(8)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let b = block_at(wid.x);
    let head = wid.y;
    let width = p.heads * QUADS;
    let row = b.row + min(lane, b.rows - 1u);
    let scale = inverseSqrt(f32(HEAD));
    var q: array<vec4<f32>, QUADS>;
    var acc: array<vec4<f32>, QUADS>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = texel(head * QUADS + d, row) * scale;
        acc[d] = vec4<f32>();
    }
    var top = LOWEST;
    var sum = 0.0;
    let keys = keys_of(b);
    for (var i = 0u; i < keys; i += 8u) {
        let from_row = row_of_key(b, min(i + lane, keys - 1u));
        var s = Eight();
        for (var d = 0u; d < QUADS; d++) {
            s += dots(q[d], texel(width + head * QUADS + d, from_row));
        }
        let sees = seen(b, row, i, keys);
        let low = select(vec4<f32>(LOWEST), s[0], sees[0]);
        let high = select(vec4<f32>(LOWEST), s[1], sees[1]);
        let most = max(low, high);
        let next = max(max(top, most.x), max(max(most.y, most.z), most.w));
        let shrink = exp(top - next);
        // A key that is not seen is not weighed, even where none is and `next` is LOWEST itself.
        let w = Eight(
            select(vec4<f32>(), exp(low - next), sees[0]),
            select(vec4<f32>(), exp(high - next), sees[1]),
        );
        sum = fma(sum, shrink, dot(w[0] + w[1], vec4<f32>(1.0)));
        for (var d = 0u; d < QUADS; d++) {
            acc[d] = fma(acc[d], vec4<f32>(shrink), weighted(w, texel(2u * width + head * QUADS + d, from_row)));
        }
        top = next;
    }
    if lane >= b.rows {
        return;
    }
    for (var d = 0u; d < QUADS; d++) {
        let v = acc[d] / sum;
        let at = row * p.heads * HEAD + head * HEAD + 4u * d;
        y[at] = v.x;
        y[at + 1u] = v.y;
        y[at + 2u] = v.z;
        y[at + 3u] = v.w;
    }
    lse[row * p.heads + head] = top + log(sum);
}

// The query third of dqkv [rows, 3·width].
@compute @workgroup_size(8)
fn backward_q(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let b = block_at(wid.x);
    let head = wid.y;
    let width = p.heads * QUADS;
    let row = b.row + min(lane, b.rows - 1u);
    let scale = inverseSqrt(f32(HEAD));
    var q: array<vec4<f32>, QUADS>;
    var g: array<vec4<f32>, QUADS>;
    var dq: array<vec4<f32>, QUADS>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = texel(head * QUADS + d, row) * scale;
        g[d] = textureLoad(dy, vec2<u32>(head * QUADS + d, row), 0);
        dq[d] = vec4<f32>();
    }
    let log_sum = lse[row * p.heads + head];
    let dot_row = delta[row * p.heads + head];
    let keys = keys_of(b);
    for (var i = 0u; i < keys; i += 8u) {
        let from_row = row_of_key(b, min(i + lane, keys - 1u));
        var s = Eight();
        var dw = Eight();
        for (var d = 0u; d < QUADS; d++) {
            s += dots(q[d], texel(width + head * QUADS + d, from_row));
            dw += dots(g[d], texel(2u * width + head * QUADS + d, from_row));
        }
        let sees = seen(b, row, i, keys);
        // The exponent of a seen key is at most 0; where a key is not seen it may be anything.
        let ds = Eight(
            select(vec4<f32>(), exp(min(s[0] - log_sum, vec4<f32>(1.0))) * (dw[0] - dot_row) * scale, sees[0]),
            select(vec4<f32>(), exp(min(s[1] - log_sum, vec4<f32>(1.0))) * (dw[1] - dot_row) * scale, sees[1]),
        );
        for (var d = 0u; d < QUADS; d++) {
            dq[d] += weighted(ds, texel(width + head * QUADS + d, from_row));
        }
    }
    if lane >= b.rows {
        return;
    }
    for (var d = 0u; d < QUADS; d++) {
        let at = row * 3u * p.heads * HEAD + head * HEAD + 4u * d;
        dqkv[at] = dq[d].x;
        dqkv[at + 1u] = dq[d].y;
        dqkv[at + 2u] = dq[d].z;
        dqkv[at + 3u] = dq[d].w;
    }
}

// The key and value thirds of dqkv [rows, 3·width]: each row gathers from the queries that see it, its own sequence's first,
// then those that have it in their prefix: a fixed order, and no two invocations write one element.
@compute @workgroup_size(8)
fn backward_kv(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let b = block_at(wid.x);
    let head = wid.y;
    let width = p.heads * QUADS;
    let row = b.row + min(lane, b.rows - 1u);
    let scale = inverseSqrt(f32(HEAD));
    var k: array<vec4<f32>, QUADS>;
    var v: array<vec4<f32>, QUADS>;
    var dk: array<vec4<f32>, QUADS>;
    var dv: array<vec4<f32>, QUADS>;
    for (var d = 0u; d < QUADS; d++) {
        k[d] = texel(width + head * QUADS + d, row) * scale;
        v[d] = texel(2u * width + head * QUADS + d, row);
        dk[d] = vec4<f32>();
        dv[d] = vec4<f32>();
    }
    let first = select(b.own, b.row, CAUSAL == 1u);
    let own = b.own + b.own_rows - first;
    let queries = own + b.users_rows;
    for (var i = 0u; i < queries; i += 8u) {
        let mine = min(i + lane, queries - 1u);
        let from_row = select(b.users + mine - own, first + mine, mine < own);
        let log_sums = all_of(lse[from_row * p.heads + head]);
        let deltas = all_of(delta[from_row * p.heads + head]);
        var s = Eight();
        var dw = Eight();
        for (var d = 0u; d < QUADS; d++) {
            s += dots(k[d], texel(head * QUADS + d, from_row));
            dw += dots(v[d], textureLoad(dy, vec2<u32>(head * QUADS + d, from_row), 0));
        }
        // Own queries see this row from its own on where causal; users of the prefix all do.
        let skipped = select(0u, row - first, CAUSAL == 1u);
        let number = vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u);
        let low = (number < vec4<u32>(queries)) & (number >= vec4<u32>(skipped));
        let high = (number + 4u < vec4<u32>(queries)) & (number + 4u >= vec4<u32>(skipped));
        let w = Eight(
            select(vec4<f32>(), exp(min(s[0] - log_sums[0], vec4<f32>(1.0))), low),
            select(vec4<f32>(), exp(min(s[1] - log_sums[1], vec4<f32>(1.0))), high),
        );
        let ds = Eight(w[0] * (dw[0] - deltas[0]) * scale, w[1] * (dw[1] - deltas[1]) * scale);
        for (var d = 0u; d < QUADS; d++) {
            dk[d] += weighted(ds, texel(head * QUADS + d, from_row));
            dv[d] += weighted(w, textureLoad(dy, vec2<u32>(head * QUADS + d, from_row), 0));
        }
    }
    if lane >= b.rows {
        return;
    }
    for (var d = 0u; d < QUADS; d++) {
        let at = row * 3u * p.heads * HEAD + p.heads * HEAD + head * HEAD + 4u * d;
        dqkv[at] = dk[d].x;
        dqkv[at + 1u] = dk[d].y;
        dqkv[at + 2u] = dk[d].z;
        dqkv[at + 3u] = dk[d].w;
        let values = at + p.heads * HEAD;
        dqkv[values] = dv[d].x;
        dqkv[values + 1u] = dv[d].y;
        dqkv[values + 2u] = dv[d].z;
        dqkv[values + 3u] = dv[d].w;
    }
}
