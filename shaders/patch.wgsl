// The data movements of CLIP's patch embedding; the convolution itself is a GEMM between them.
//
// unfold: pixels [batch,3,size,size] → rows [batch·grid², 3·patch²], in the order of the convolution's weight.
// assemble: y[b,0] = class + position[0]; y[b,t] = patches[b,t−1] + position[t]; y is [batch, grid²+1, width]. Without a
// class token (`first` = 0) y[b,t] = patches[b,t] + position[t], [batch, grid², width].
// Pictures of several sizes share one product: those of this size have their patches from row `cell_row` on, and their tokens
// from row `token_row` on.
// strip and fold are their transposes, for the gradient by the pixels: strip drops the class token's row; fold puts
// each patch's pixels back (every pixel lies in one patch at most; those left over get zero).
//# import linear

struct Params {
    batch: u32,
    size: u32,
    side: u32, // of a patch
    grid: u32,
    width: u32,
    first: u32, // the number of the first patch's token
    cell_row: u32,
    token_row: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> pixels: array<f32>;
@group(0) @binding(2) var<storage, read> patches: array<f32>;
@group(0) @binding(3) var<storage, read> class_embedding: array<f32>;
@group(0) @binding(4) var<storage, read> position: array<f32>;
@group(0) @binding(5) var<storage, read> dtokens: array<f32>;
@group(0) @binding(6) var<storage, read> dunfolded: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn unfold(id: Invocation) {
    let i = number_of(id);
    let area = p.side * p.side;
    let depth = 3u * area;
    if i >= p.batch * p.grid * p.grid * depth {
        return;
    }
    let row = i / depth;
    let within = i % depth;
    let image = row / (p.grid * p.grid);
    let cell = row % (p.grid * p.grid);
    let channel = within / area;
    let py = (cell / p.grid) * p.side + (within % area) / p.side;
    let px = (cell % p.grid) * p.side + within % p.side;
    y[p.cell_row * depth + i] = pixels[((image * 3u + channel) * p.size + py) * p.size + px];
}

@compute @workgroup_size(64)
fn assemble(id: Invocation) {
    let i = number_of(id);
    let cells = p.grid * p.grid;
    let tokens = cells + p.first;
    if i >= p.batch * tokens * p.width {
        return;
    }
    let col = i % p.width;
    let token = (i / p.width) % tokens;
    let image = i / (p.width * tokens);
    let at = p.token_row * p.width + i;
    if token < p.first {
        y[at] = class_embedding[col] + position[col];
    } else {
        let cell = p.cell_row + image * cells + token - p.first;
        y[at] = patches[cell * p.width + col] + position[token * p.width + col];
    }
}

@compute @workgroup_size(64)
fn strip(id: Invocation) {
    let i = number_of(id);
    let image = p.grid * p.grid * p.width;
    if i >= p.batch * image {
        return;
    }
    y[i] = dtokens[i + (i / image + 1u) * p.first * p.width];
}

@compute @workgroup_size(64)
fn fold(id: Invocation) {
    let i = number_of(id);
    if i >= p.batch * 3u * p.size * p.size {
        return;
    }
    let px = i % p.size;
    let py = (i / p.size) % p.size;
    let channel = (i / (p.size * p.size)) % 3u;
    let image = i / (3u * p.size * p.size);
    let cell_x = px / p.side;
    let cell_y = py / p.side;
    if cell_x >= p.grid || cell_y >= p.grid {
        y[i] = 0.0;
        return;
    }
    let row = (image * p.grid + cell_y) * p.grid + cell_x;
    y[i] = dunfolded[((row * 3u + channel) * p.side + py % p.side) * p.side + px % p.side];
}
