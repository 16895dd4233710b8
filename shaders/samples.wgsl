// pixels [batch,3,size,size] of prepared pictures [batch,size,size,3] of 8 bits, four to a word: each sample is looked up in
// its channel's row of table [3,256]. So the numbers are those of the host's divisions to the bit, which a GPU's need not be.
//# import linear

struct Params {
    count: u32, // pixels in all
    area: u32,  // size²
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> samples: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(id: Invocation) {
    let i = number_of(id);
    if i >= p.count {
        return;
    }
    let channel = (i / p.area) % 3u;
    let at = ((i / (3u * p.area)) * p.area + i % p.area) * 3u + channel;
    let sample = (samples[at / 4u] >> (8u * (at % 4u))) & 0xffu;
    y[i] = table[channel * 256u + sample];
}
