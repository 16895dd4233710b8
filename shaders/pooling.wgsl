// From the tokens of a picture or text to one row: by attention of a query that is the same for all pictures, or by their mean.
//
// Attention takes rows of values and, behind them, one score per head: x [batch·tokens, width + heads]. The query is fixed,
// so a score is a linear function of a token, and is computed with the values in one product.
//   shares: s [batch·tokens, heads] = softmax over a picture's tokens of each head's scores;
//   mix: y [batch, width] = Σ_t s·value;
//   back: dx of both, from dy [batch, width]: dvalue = s·dy; dscore = s·(dy·value − dy·y), summed over the head.
// mean: y [batch, width] = mean of the tokens from `first` on of x [batch·tokens, width]; mean_back: its gradient.
// mean_spans: y [batch, width] = mean of each text's rows in x [tokens, width], where texts differ in length and lie one after
// the other; mean_spans_back: its gradient.
//# import linear

struct Params {
    batch: u32,
    tokens: u32,
    width: u32,
    heads: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read> mixed: array<f32>; // back: what mix gave
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> shared_out: array<f32>; // shares
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;
@group(0) @binding(8) var<storage, read> spans: array<u32>; // of each text the first row and the number of rows
@group(0) @binding(9) var<storage, read> owners: array<u32>; // of each row its text

@compute @workgroup_size(64)
fn shares(id: Invocation) {
    let i = number_of(id);
    if i >= p.batch * p.heads {
        return;
    }
    let head = i % p.heads;
    let row = (i / p.heads) * p.tokens;
    let stride = p.width + p.heads;
    var top = -3.0e38;
    for (var t = 0u; t < p.tokens; t++) {
        top = max(top, x[(row + t) * stride + p.width + head]);
    }
    var sum = 0.0;
    for (var t = 0u; t < p.tokens; t++) {
        sum += exp(x[(row + t) * stride + p.width + head] - top);
    }
    for (var t = 0u; t < p.tokens; t++) {
        shared_out[(row + t) * p.heads + head] = exp(x[(row + t) * stride + p.width + head] - top) / sum;
    }
}

@compute @workgroup_size(64)
fn mix(id: Invocation) {
    let i = number_of(id);
    if i >= p.batch * p.width {
        return;
    }
    let col = i % p.width;
    let head = col / (p.width / p.heads);
    let row = (i / p.width) * p.tokens;
    let stride = p.width + p.heads;
    var sum = 0.0;
    for (var t = 0u; t < p.tokens; t++) {
        sum = fma(s[(row + t) * p.heads + head], x[(row + t) * stride + col], sum);
    }
    y[i] = sum;
}

// One invocation per token and head.
@compute @workgroup_size(64)
fn back(id: Invocation) {
    let i = number_of(id);
    if i >= p.batch * p.tokens * p.heads {
        return;
    }
    let head = i % p.heads;
    let row = i / p.heads;
    let picture = row / p.tokens;
    let side = p.width / p.heads;
    let stride = p.width + p.heads;
    let share = s[i];
    var along = 0.0;
    for (var d = 0u; d < side; d++) {
        let col = head * side + d;
        let g = dy[picture * p.width + col];
        along = fma(g, x[row * stride + col] - mixed[picture * p.width + col], along);
        dx[row * stride + col] = share * g;
    }
    dx[row * stride + p.width + head] = share * along;
}

@compute @workgroup_size(64)
fn mean(id: Invocation) {
    let i = number_of(id);
    if i >= p.batch * p.width {
        return;
    }
    let col = i % p.width;
    let row = (i / p.width) * p.tokens;
    var sum = 0.0;
    for (var t = p.first; t < p.tokens; t++) {
        sum += x[(row + t) * p.width + col];
    }
    y[i] = sum / f32(p.tokens - p.first);
}

@compute @workgroup_size(64)
fn mean_back(id: Invocation) {
    let i = number_of(id);
    if i >= p.batch * p.tokens * p.width {
        return;
    }
    let row = i / p.width;
    let share = dy[(row / p.tokens) * p.width + i % p.width] / f32(p.tokens - p.first);
    dx[i] = select(0.0, share, row % p.tokens >= p.first);
}

@compute @workgroup_size(64)
fn mean_spans(id: Invocation) {
    let i = number_of(id);
    if i >= p.batch * p.width {
        return;
    }
    let text = i / p.width;
    let first = spans[2u * text];
    let count = spans[2u * text + 1u];
    var sum = 0.0;
    for (var t = 0u; t < count; t++) {
        sum += x[(first + t) * p.width + i % p.width];
    }
    y[i] = sum / f32(count);
}

@compute @workgroup_size(64)
fn mean_spans_back(id: Invocation) {
    let i = number_of(id);
    if i >= p.tokens * p.width {
        return;
    }
    let text = owners[i / p.width];
    dx[i] = dy[text * p.width + i % p.width] / f32(spans[2u * text + 1u]);
}
