// The activations of CLIP and their derivatives; shared by the GEMM's epilogue and activation.wgsl.

// σ(x) without overflow: exp of a non-positive number only.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

fn quick_gelu(x: f32) -> f32 {
    return x * sigmoid(1.702 * x);
}

fn quick_gelu_slope(x: f32) -> f32 {
    let s = sigmoid(1.702 * x);
    return s + 1.702 * x * s * (1.0 - s);
}

// erf to 2e-7: a Chebyshev fit of erf(x)/x in x² up to 1, and of −log erfc(x) in x from there to 4, where f32 is 1.
fn erf(x: f32) -> f32 {
    let t = abs(x);
    if t < 1.0 {
        let s = x * x;
        var r = 7.8824974e-05;
        r = fma(r, s, -0.0008018855);
        r = fma(r, s, 0.005189312);
        r = fma(r, s, -0.026854329);
        r = fma(r, s, 0.11283597);
        r = fma(r, s, -0.37612626);
        r = fma(r, s, 1.1283791);
        return r * x;
    }
    let u = min(t, 4.0);
    var q = 1.330939e-05;
    q = fma(q, u, -0.00031757203);
    q = fma(q, u, 0.0034368676);
    q = fma(q, u, -0.022621986);
    q = fma(q, u, 0.10331898);
    q = fma(q, u, 0.63909334);
    q = fma(q, u, 1.1259259);
    q = fma(q, u, 0.0007569686);
    return sign(x) * (1.0 - exp(-q));
}

fn erf_gelu(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * 0.70710678));
}

fn erf_gelu_slope(x: f32) -> f32 {
    return 0.5 * (1.0 + erf(x * 0.70710678)) + x * 0.39894228 * exp(-0.5 * x * x);
}

// ½(1 + tanh u) is σ(2u), which does not overflow; 2√(2/π) and that times 0.044715.
fn tanh_gelu(x: f32) -> f32 {
    return x * sigmoid(x * fma(0.071354814, x * x, 1.5957691));
}

fn tanh_gelu_slope(x: f32) -> f32 {
    let u = x * fma(0.071354814, x * x, 1.5957691);
    // Not 1 − σ(u): next to 1 that would have few digits left, times a large slope of u.
    return sigmoid(u) + x * sigmoid(u) * sigmoid(-u) * fma(3.0 * 0.071354814, x * x, 1.5957691);
}
