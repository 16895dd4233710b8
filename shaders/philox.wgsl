// Philox4x32-10, a counter-based generator (Salmon et al., 2011); shared by noise.wgsl and dropout.wgsl.

// The high and low words of a 32×32-bit product; WGSL has no 64-bit integers.
fn mul_wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let mid = a1 * b0 + (low >> 16u);
    let mid2 = a0 * b1 + (mid & 0xffffu);
    return vec2<u32>(a1 * b1 + (mid >> 16u) + (mid2 >> 16u), a * b);
}

fn philox(block: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var c = block;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let p0 = mul_wide(0xD2511F53u, c.x);
        let p1 = mul_wide(0xCD9E8D57u, c.z);
        c = vec4<u32>(p1.x ^ c.y ^ key.x, p1.y, p0.x ^ c.w ^ key.y, p0.y);
        key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// (0, 1]: never zero, whose logarithm is infinite.
fn unit(word: u32) -> f32 {
    return (f32(word >> 8u) + 1.0) * 5.9604645e-8;
}
