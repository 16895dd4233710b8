// Batch norm (Ioffe and Szegedy, arXiv 1502.03167) over rows of channels, [rows, channels], which may lie in several tensors.
//
// collect: number, mean and sum of squared differences of each channel over each chunk of rows; partial is
//          [chunks, 3, channels].
// finish:  mean and 1/√(variance + eps) of each channel over all chunks, stats [2, channels], and the running statistics
//          [2, channels]: r ← (1 − momentum)·r + momentum·new, of the mean and of the variance over n − 1.
// recall:  stats of the running statistics.
// apply:   y = act((x − mean)·rstd·gain + shift + base). Open constants: RELU (0 or 1), BASE (whether there is one).
// slopes:  Σ dy and Σ dy·x̂ of each channel over each chunk, x̂ = (x − mean)·rstd; partial is [chunks, 2, channels].
// through: dx = gain·rstd·(dy − Σdy/n − x̂·Σ(dy·x̂)/n), sums [2, channels] being those of all rows.
//
// Every sum has a fixed order. Differences are taken from the chunk's own mean, so that nothing cancels.
//# import linear

struct Params {
    rows: u32,     // of x; finish: chunks
    channels: u32,
    chunk: u32,    // rows of a chunk
    first: u32,    // number of the first chunk
    number: f32,   // through: rows of all tensors
    eps: f32,
    momentum: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read> gain: array<f32>;
@group(0) @binding(4) var<storage, read> shift: array<f32>;
@group(0) @binding(5) var<storage, read> base: array<f32>;
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read> sums: array<f32>;
@group(0) @binding(8) var<storage, read> kept: array<f32>;
@group(0) @binding(9) var<storage, read_write> running: array<f32>;
@group(0) @binding(10) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn collect(id: Invocation) {
    let i = number_of(id);
    let chunks = (p.rows + p.chunk - 1u) / p.chunk;
    if i >= chunks * p.channels {
        return;
    }
    let channel = i % p.channels;
    let begin = (i / p.channels) * p.chunk;
    let end = min(begin + p.chunk, p.rows);
    let count = f32(end - begin);
    var sum = 0.0;
    for (var row = begin; row < end; row++) {
        sum += x[row * p.channels + channel];
    }
    let mean = sum / count;
    var squares = 0.0;
    for (var row = begin; row < end; row++) {
        let off = x[row * p.channels + channel] - mean;
        squares += off * off;
    }
    let at = (p.first + i / p.channels) * 3u * p.channels + channel;
    y[at] = count;
    y[at + p.channels] = mean;
    y[at + 2u * p.channels] = squares;
}

@compute @workgroup_size(64)
fn finish(id: Invocation) {
    let channel = number_of(id);
    if channel >= p.channels {
        return;
    }
    let step = 3u * p.channels;
    var count = 0.0;
    var sum = 0.0;
    for (var i = 0u; i < p.rows; i++) {
        let at = i * step + channel;
        count += x[at];
        sum += x[at] * x[at + p.channels];
    }
    let mean = sum / count;
    var squares = 0.0;
    for (var i = 0u; i < p.rows; i++) {
        let at = i * step + channel;
        let off = x[at + p.channels] - mean;
        squares += x[at + 2u * p.channels] + x[at] * off * off;
    }
    y[channel] = mean;
    y[p.channels + channel] = 1.0 / sqrt(squares / count + p.eps);
    let variance = squares / max(count - 1.0, 1.0);
    running[channel] = (1.0 - p.momentum) * running[channel] + p.momentum * mean;
    running[p.channels + channel] = (1.0 - p.momentum) * running[p.channels + channel] + p.momentum * variance;
}

@compute @workgroup_size(64)
fn recall(id: Invocation) {
    let channel = number_of(id);
    if channel >= p.channels {
        return;
    }
    y[channel] = kept[channel];
    y[p.channels + channel] = 1.0 / sqrt(kept[p.channels + channel] + p.eps);
}

@compute @workgroup_size(64)
fn apply(id: Invocation) {
    let i = number_of(id);
    if i >= p.rows * p.channels {
        return;
    }
    let c = i % p.channels;
    var value = (x[i] - stats[c]) * stats[p.channels + c] * gain[c] + shift[c];
    //# if BASE
    value += base[i];
    //# end
    //# if RELU
    value = max(value, 0.0);
    //# end
    y[i] = value;
}

@compute @workgroup_size(64)
fn slopes(id: Invocation) {
    let i = number_of(id);
    let chunks = (p.rows + p.chunk - 1u) / p.chunk;
    if i >= chunks * p.channels {
        return;
    }
    let channel = i % p.channels;
    let begin = (i / p.channels) * p.chunk;
    let end = min(begin + p.chunk, p.rows);
    let mean = stats[channel];
    let rstd = stats[p.channels + channel];
    var plain = 0.0;
    var along = 0.0;
    for (var row = begin; row < end; row++) {
        let at = row * p.channels + channel;
        plain += dy[at];
        along += dy[at] * ((x[at] - mean) * rstd);
    }
    let at = (p.first + i / p.channels) * 2u * p.channels + channel;
    y[at] = plain;
    y[at + p.channels] = along;
}

@compute @workgroup_size(64)
fn through(id: Invocation) {
    let i = number_of(id);
    if i >= p.rows * p.channels {
        return;
    }
    let c = i % p.channels;
    let rstd = stats[p.channels + c];
    let normed = (x[i] - stats[c]) * rstd;
    y[i] = gain[c] * rstd * (dy[i] - sums[c] / p.number - normed * (sums[p.channels + c] / p.number));
}
