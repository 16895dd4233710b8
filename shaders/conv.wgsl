// The data movements of a convolutional tower; each convolution itself is a GEMM on unfolded rows (unfold.wgsl). Between layers
// pictures are rows of channels, [batch, height, width, channels].
//
// turn:   weight [outputs, side²·inputs] → [inputs, side²·outputs], cells in the opposite order: the weight of the convolution
//         that takes gradients back. `batch` outputs, `channels` inputs.
// pool:   y[b,i,j,c] = mean of x over the side × side window at (side·i, side·j); what is left over is dropped.
// tokens: y[b,0] = mean of x[b] + position[0]; y[b,t] = x[b,t−1] + position[t].
//# import linear

struct Params {
    batch: u32,
    size: u32,     // of the input, a square
    out: u32,      // of the output
    channels: u32,
    side: u32,     // of the window
    first: u32,    // tokens: the picture of y
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> position: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn turn(id: Invocation) {
    let i = number_of(id);
    let area = p.side * p.side;
    if i >= p.channels * area * p.batch {
        return;
    }
    let output = i % p.batch;
    let cell = i / p.batch % area;
    let input = i / (p.batch * area);
    y[i] = x[(output * area + area - 1u - cell) * p.channels + input];
}

@compute @workgroup_size(64)
fn pool(id: Invocation) {
    let i = number_of(id);
    if i >= p.batch * p.out * p.out * p.channels {
        return;
    }
    let channel = i % p.channels;
    let at = i / p.channels;
    let px = (at % p.out) * p.side;
    let py = (at / p.out % p.out) * p.side;
    let image = at / (p.out * p.out);
    var sum = 0.0;
    for (var ky = 0u; ky < p.side; ky++) {
        for (var kx = 0u; kx < p.side; kx++) {
            sum += x[((image * p.size + py + ky) * p.size + px + kx) * p.channels + channel];
        }
    }
    y[i] = sum / f32(p.side * p.side);
}

@compute @workgroup_size(64)
fn tokens(id: Invocation) {
    let i = number_of(id);
    let cells = p.size * p.size;
    if i >= p.batch * (cells + 1u) * p.channels {
        return;
    }
    let channel = i % p.channels;
    let token = i / p.channels % (cells + 1u);
    let image = i / (p.channels * (cells + 1u));
    let base = image * cells;
    var value = 0.0;
    if token == 0u {
        for (var t = 0u; t < cells; t++) {
            value += x[(base + t) * p.channels + channel];
        }
        value /= f32(cells);
    } else {
        value = x[(base + token - 1u) * p.channels + channel];
    }
    y[p.first * (cells + 1u) * p.channels + i] = value + position[token * p.channels + channel];
}
