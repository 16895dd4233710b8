// Standard normals from random words by Box–Muller, in whole numbers alone.
//
// WGSL lets a compiler fuse, split and reorder sums and products of floats, and lets log, sin and cos be off by many units in
// the last place. Whole numbers have one result on every device, so these normals are the same bits everywhere. They are
// within 2⁻²² of their own size of the exact normals (tests/kernels/noise.rs goes through all words).
//# import philox

// A number mantissa·2^exponent; the mantissa is 0 or in 2²³…2²⁴, so it is an f32 without rounding.
struct Scaled {
    mantissa: u32,
    exponent: i32,
}

fn mul_high(a: u32, b: u32) -> u32 {
    return mul_wide(a, b).x;
}

// The sum of two numbers of 64 bits, high word first.
fn add_wide(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.y + b.y;
    return vec2<u32>(a.x + b.x + select(0u, 1u, low < a.y), low);
}

// n·2^(s − 64) shifted up until its highest bit is set, and s; n is not 0.
struct Shifted {
    high: u32,
    low: u32,
    by: u32,
}

fn shifted(n: vec2<u32>) -> Shifted {
    let whole = n.x == 0u;
    let high = select(n.x, n.y, whole);
    let low = select(n.y, 0u, whole);
    let s = countLeadingZeros(high);
    // In two steps, since a shift by 32 is none.
    return Shifted((high << s) | ((low >> 1u) >> (31u - s)), low << s, s + select(0u, 32u, whole));
}

// n·2^exponent, rounded to 24 bits.
fn scaled(n: vec2<u32>, exponent: i32) -> Scaled {
    if n.x == 0u && n.y == 0u {
        return Scaled(0u, 0);
    }
    let v = shifted(n);
    return Scaled((v.high >> 8u) + ((v.high >> 7u) & 1u), exponent + 40 - i32(v.by));
}

// −2·ln((word >> 8) + 1)/2²⁴) in units of 2⁻⁵⁸, for a word of which the lower 8 bits do not count.
fn minus_two_log(word: u32) -> vec2<u32> {
    let w = word >> 8u;
    // (w + 1)/2²⁴ = m·2^−halvings with m in (½, 1]; in units of 2⁻²⁴.
    let halvings = countLeadingZeros(w) - 8u;
    let m = (w + 1u) << halvings;
    // m times some eighths is within 0.16 below 1.
    var eighths = 8u;
    var log_eighths = vec2<u32>(0u, 0u);
    switch (m - 1u) >> 20u {
        case 8u: {
            eighths = 14u;
            log_eighths = LOG_14;
        }
        case 9u: {
            eighths = 12u;
            log_eighths = LOG_12;
        }
        case 10u: {
            eighths = 11u;
            log_eighths = LOG_11;
        }
        case 11u: {
            eighths = 10u;
            log_eighths = LOG_10;
        }
        case 12u, 13u: {
            eighths = 9u;
            log_eighths = LOG_9;
        }
        default: {
        }
    }
    // −ln(1 − g) = g·(1 + g/2 + g²/3 + …): what is left out after g¹¹/12 is less than 2⁻³⁵ of it.
    let below = (1u << 27u) - m * eighths;
    let g = below << 5u;
    var p = 178956971u;
    p = 195225786u + mul_high(p, g);
    p = 214748365u + mul_high(p, g);
    p = 238609294u + mul_high(p, g);
    p = 268435456u + mul_high(p, g);
    p = 306783378u + mul_high(p, g);
    p = 357913941u + mul_high(p, g);
    p = 429496730u + mul_high(p, g);
    p = 536870912u + mul_high(p, g);
    p = 715827883u + mul_high(p, g);
    p = 1073741824u + mul_high(p, g);
    p = 2147483648u + mul_high(p, g);
    let halves = mul_wide(LOG_2.y, halvings) + vec2<u32>(LOG_2.x * halvings, 0u);
    let log = add_wide(add_wide(halves, log_eighths), mul_wide(below, p));
    return vec2<u32>((log.x << 1u) | (log.y >> 31u), log.y << 1u);
}

// ln of 2 and of 9…14 eighths in units of 2⁻⁵⁸.
const LOG_2 = vec2<u32>(0x02c5c85fu, 0xdf473de7u);
const LOG_9 = vec2<u32>(0x00789c1du, 0xb8abcb98u);
const LOG_10 = vec2<u32>(0x00e47fbeu, 0x3cd4d10du);
const LOG_11 = vec2<u32>(0x014618bcu, 0x21c5ec28u);
const LOG_12 = vec2<u32>(0x019f323eu, 0xcbf984bfu);
const LOG_14 = vec2<u32>(0x023d0bebu, 0xce081a08u);

// √(n·2⁻⁵⁸).
fn root(n: vec2<u32>) -> Scaled {
    if n.x == 0u && n.y == 0u {
        return Scaled(0u, 0);
    }
    let v = shifted(n);
    // The upper 50 bits of n, shifted by an even number of places: their root has 25 bits.
    let odd = v.by & 1u;
    let high = v.high >> odd;
    let low = ((v.high & odd) << 31u) | (v.low >> odd);
    let square = vec2<u32>(high >> 14u, (high << 18u) | (low >> 14u));
    var r = 0u;
    for (var bit = 1u << 24u; bit > 0u; bit >>= 1u) {
        let next = r | bit;
        let s = mul_wide(next, next);
        if s.x < square.x || (s.x == square.x && s.y <= square.y) {
            r = next;
        }
    }
    return Scaled((r + 1u) >> 1u, -21 - i32((v.by - odd) / 2u));
}

// sin(π/2·x/2²²) for x up to 2²².
fn sine(x: u32) -> Scaled {
    if x == 1u << 22u {
        return Scaled(1u << 23u, -23);
    }
    // x/2²² times a polynomial in its square, to 2⁻³⁴; coefficients in units of 2⁻³⁰.
    let y = x << 10u;
    let z = mul_high(y, y);
    var s = 172072u - mul_high(3685u, z);
    s = 5026892u - mul_high(s, z);
    s = 85569282u - mul_high(s, z);
    s = 693598666u - mul_high(s, z);
    s = 1686629713u - mul_high(s, z);
    return scaled(mul_wide(x, s), -52);
}

// a·b as the nearest f32, with the sign that is asked for.
fn product(a: Scaled, b: Scaled, negative: bool) -> f32 {
    let v = scaled(mul_wide(a.mantissa, b.mantissa), a.exponent + b.exponent);
    let size = f32(v.mantissa) * bitcast<f32>(u32(v.exponent + 127) << 23u);
    return select(size, -size, negative);
}

// Two normals from two words: the radius from one, the angle from the other.
fn two_normals(radius: u32, angle: u32) -> vec2<f32> {
    let r = root(minus_two_log(radius));
    // The angle in turns, in units of 2⁻²⁴, is some quarters and a rest.
    let turn = (angle >> 8u) + 1u;
    let quarter = (turn >> 22u) & 3u;
    let rest = turn & 0x3fffffu;
    let rising = sine(rest);
    let falling = sine((1u << 22u) - rest);
    let even = (quarter & 1u) == 0u;
    var of_cos = rising;
    var of_sin = falling;
    if even {
        of_cos = falling;
        of_sin = rising;
    }
    return vec2<f32>(product(r, of_cos, quarter == 1u || quarter == 2u), product(r, of_sin, quarter >= 2u));
}
