// x → rows [rows, side²·channels] for a convolution as a product, in the order (row, column, channel) of the window; zeros outside the
// picture. Pixels come as [batch, 3, size, size], which other strides express. `rows` rows from row `first` on.
//
// FOUR: where channels lie side by side and are a multiple of four, a number is four of them, and `channels` and strides count these.
// EACH: numbers that an invocation writes, 64 apart, so that neighbours write neighbours. Divisions are dear, to CPUs above all: only
// the first number is taken apart, and what is added to its digits is the same for all.
//# import linear

//# if FOUR
alias Number = vec4<f32>;
//# else
alias Number = f32;
//# end

struct Params {
    rows: u32,
    first: u32,
    size: u32,     // of the input, a square
    out: u32,      // of the output
    channels: u32,
    side: u32,     // of the window
    stride: u32,
    pad: u32,
    image_step: u32,
    row_step: u32,
    column_step: u32,
    channel_step: u32,
    // 64 numbers further, as digits, each with as many values as what it counts.
    channel_add: u32,
    column_add: u32, // within the window
    row_add: u32,
    across_add: u32, // positions
    down_add: u32,
    image_add: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Number>;
@group(0) @binding(2) var<storage, read_write> y: array<Number>;

// Adds to a digit that has so many values, and returns what goes over to the next.
fn carried(digit: ptr<function, u32>, add: u32, values: u32) -> u32 {
    *digit += add;
    let over = *digit >= values;
    *digit -= select(0u, values, over);
    return u32(over);
}

@compute @workgroup_size(64)
fn main(id: Invocation) {
    let n = number_of(id);
    var i = n / 64u * (64u * EACH) + n % 64u;
    let depth = p.side * p.side * p.channels;
    let total = p.rows * depth;
    let area = p.out * p.out;
    let cell = i % depth / p.channels;
    let at = (p.first + i / depth) % area;
    var channel = i % p.channels;
    var column = cell % p.side;
    var row = cell / p.side;
    var across = at % p.out;
    var down = at / p.out;
    var image = (p.first + i / depth) / area;
    for (var k = 0u; k < EACH && i < total; k++) {
        // Shifted by the padding, so that nothing is negative.
        let py = down * p.stride + row;
        let px = across * p.stride + column;
        var value = Number();
        if py >= p.pad && px >= p.pad && py - p.pad < p.size && px - p.pad < p.size {
            value = x[image * p.image_step + (py - p.pad) * p.row_step + (px - p.pad) * p.column_step + channel * p.channel_step];
        }
        y[i] = value;
        i += 64u;
        let channels = carried(&channel, p.channel_add, p.channels);
        let columns = carried(&column, p.column_add + channels, p.side);
        let rows = carried(&row, p.row_add + columns, p.side);
        let acrosses = carried(&across, p.across_add + rows, p.out);
        let downs = carried(&down, p.down_add + acrosses, p.out);
        image += p.image_add + downs;
    }
}
