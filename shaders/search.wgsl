// Counts right answers at every point of a grid: for each β, γ and α the rows whose largest logit
// base + γ·kl + α·cache[β] is the label's, the first of equals winning. counts [betas, gammas, alphas].
//
// Along α every logit is a straight line, so the values of α at which the label beats one other class are a run from
// some point to an end of the (ascending) grid, and those at which it beats all are one interval. So a row costs one
// pass over the classes for all values of α together. Two intervals are kept: `inner`, where the label wins by more
// than f32 can blur, and `outer`, outside of which it loses by more than that. The few points between are decided by
// the plain comparison of the logits themselves, so that the counts are those of a plain loop over the grid.
//
// Open constants: ALPHAS (room for values of α), GAMMAS (values of γ that a workgroup takes, up to 8), KL (whether
// there is a kl term).
//# import linear, quads

struct Params {
    rows: u32,
    classes: u32,
    alphas: u32,
    betas: u32,
    gammas: u32,
    reach: f32, // largest |α|
    low: f32,   // smallest α
    high: f32,  // largest α
    nothing: u32, // 0, which no compiler knows
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> base: array<f32>;   // [rows, classes]
@group(0) @binding(2) var<storage, read> cache: array<f32>;  // [betas, rows, classes]
//# if KL
@group(0) @binding(3) var<storage, read> kl: array<f32>;     // [rows, classes]
//# end
@group(0) @binding(4) var<storage, read> labels: array<u32>; // [rows]
@group(0) @binding(5) var<storage, read> alphas: array<f32>;
@group(0) @binding(6) var<storage, read> gammas: array<f32>;
@group(0) @binding(7) var<storage, read_write> counts: array<u32>;

// Sixteen half units in the last place of all that is compared: what the rounding of both ways of comparing, and of where
// two lines cross, can come to together, with a division that is 2.5 units off as Vulkan allows.
const BLUR: f32 = 9.6e-7;
const HUGE: f32 = 1.0e30;

// Of each of its values of γ: where intervals begin, less where they end, and single points.
var<workgroup> edges: array<atomic<u32>, GAMMAS * (ALPHAS + 1)>;

fn static_parts(at: u32, gamma: vec4<f32>) -> vec4<f32> {
    //# if KL
    return fma(gamma, vec4<f32>(kl[at]), vec4<f32>(base[at]));
    //# else
    return vec4<f32>(base[at]);
    //# end
}

// The size of the kl term at the most, under a value of γ of this size.
fn kl_size(at: u32, gamma: f32) -> f32 {
    //# if KL
    return gamma * abs(kl[at]);
    //# else
    return 0.0;
    //# end
}

// A number as it is in 32 bits. A compiler may fuse a product with a sum, which rounds once instead of twice, or compare in
// another way; but not across this. So the plain comparison gives the same on every device.
fn settled(v: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(v) ^ p.nothing);
}

// A logit, each operation rounded.
fn logit(at: u32, from_cache: u32, alpha: f32, gamma: f32) -> f32 {
    var fixed = base[at];
    //# if KL
    fixed = settled(fixed + settled(gamma * kl[at]));
    //# end
    return settled(fixed + settled(alpha * cache[from_cache]));
}

// The plain comparison.
fn is_right(at: u32, from_cache: u32, label: u32, alpha: f32, gamma: f32) -> bool {
    let own = logit(at + label, from_cache + label, alpha, gamma);
    for (var c = 0u; c < p.classes; c++) {
        let v = logit(at + c, from_cache + c, alpha, gamma);
        if v > own || (v == own && c < label) {
            return false;
        }
    }
    return true;
}

// The first of the ascending values of α that is at least `bound` (or above it, when `past`), from a guess that is right
// on an even grid and only slow on another.
fn first_from(bound: f32, past: bool) -> u32 {
    let share = clamp((bound - p.low) / max(p.high - p.low, 1e-30), 0.0, 1.0);
    var i = u32(share * f32(p.alphas - 1u));
    while i > 0u && is_from(alphas[i - 1u], bound, past) {
        i--;
    }
    while i < p.alphas && !is_from(alphas[i], bound, past) {
        i++;
    }
    return i;
}

fn is_from(alpha: f32, bound: f32, past: bool) -> bool {
    return alpha > bound || (alpha == bound && !past);
}

// Counts a row under one γ: α between the inner bounds is right, α outside the outer ones wrong.
fn tally(inner: vec2<f32>, outer: vec2<f32>, which: u32, at: u32, label: u32, from_cache: u32, gamma: f32) {
    if outer.x > outer.y {
        return;
    }
    let edge = which * (ALPHAS + 1u);
    let from_ = first_from(outer.x, false);
    let to = first_from(outer.y, true);
    // The inner bounds lie close by.
    var sure_from = from_;
    while sure_from < to && alphas[sure_from] <= inner.x {
        sure_from++;
    }
    var sure_to = to;
    while sure_to > sure_from && alphas[sure_to - 1u] >= inner.y {
        sure_to--;
    }
    if sure_from < sure_to {
        atomicAdd(&edges[edge + sure_from], 1u);
        atomicSub(&edges[edge + sure_to], 1u);
    }
    for (var i = from_; i < to; i++) {
        if i >= sure_from && i < sure_to {
            continue;
        }
        if is_right(at, from_cache, label, alphas[i], gamma) {
            atomicAdd(&edges[edge + i], 1u);
            atomicSub(&edges[edge + i + 1u], 1u);
        }
    }
}

// Bounds on α, of four γ at once.
struct Bounds {
    inner_low: vec4<f32>,
    inner_high: vec4<f32>,
    outer_low: vec4<f32>,
    outer_high: vec4<f32>,
}

fn unbounded() -> Bounds {
    return Bounds(vec4<f32>(-HUGE), vec4<f32>(HUGE), vec4<f32>(-HUGE), vec4<f32>(HUGE));
}

// Bounds that also keep the label ahead of a class whose lead + α·gain must not fall below 0.
fn bounded(b: Bounds, lead: vec4<f32>, gain: f32, blur: vec4<f32>) -> Bounds {
    // Where lead + α·gain is blur and −blur. A flat line has no such place: it is above or below everywhere.
    let flat_ = abs(gain) < 1e-20;
    let inverse = vec4<f32>(1.0 / select(gain, 1.0, flat_));
    let sure = select((blur - lead) * inverse, select(vec4<f32>(-HUGE), vec4<f32>(HUGE), lead <= blur), flat_);
    let lost = select((-blur - lead) * inverse, select(vec4<f32>(-HUGE), vec4<f32>(HUGE), lead < -blur), flat_);
    if gain >= 0.0 || flat_ {
        return Bounds(max(b.inner_low, sure), b.inner_high, max(b.outer_low, lost), b.outer_high);
    }
    return Bounds(b.inner_low, min(b.inner_high, sure), b.outer_low, min(b.outer_high, lost));
}

fn tally_four(b: Bounds, first: u32, count: u32, at: u32, label: u32, from_cache: u32, gamma: vec4<f32>) {
    for (var j = 0u; j < min(count, 4u); j++) {
        let inner = vec2<f32>(b.inner_low[j], b.inner_high[j]);
        let outer = vec2<f32>(b.outer_low[j], b.outer_high[j]);
        tally(inner, outer, first + j, at, label, from_cache, gamma[j]);
    }
}

fn four_gammas(first: u32) -> vec4<f32> {
    let at = four_from(first, p.gammas);
    return vec4<f32>(gammas[at.x], gammas[at.y], gammas[at.z], gammas[at.w]);
}

// Eight values of γ per workgroup: they share all that is loaded.
@compute @workgroup_size(64)
fn main(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let group = workgroup_of(id);
    let eights = (p.gammas + GAMMAS - 1u) / GAMMAS;
    if group >= p.betas * eights {
        return;
    }
    for (var k = lid; k < GAMMAS * (ALPHAS + 1u); k += 64u) {
        atomicStore(&edges[k], 0u);
    }
    workgroupBarrier();
    let beta = group / eights;
    let first = GAMMAS * (group % eights);
    let count = min(GAMMAS, p.gammas - first);
    let gamma0 = four_gammas(first);
    let gamma1 = four_gammas(first + 4u);
    let sizes = max(abs(gamma0), abs(gamma1));
    let most = max(max(sizes.x, sizes.y), max(sizes.z, sizes.w));
    for (var row = lid; row < p.rows; row += 64u) {
        let at = row * p.classes;
        let from_cache = (beta * p.rows + row) * p.classes;
        let label = min(labels[row], p.classes - 1u);
        let own_slope = cache[from_cache + label];
        let own0 = static_parts(at + label, gamma0);
        let own1 = static_parts(at + label, gamma1);
        let reach = fma(p.reach, abs(own_slope), kl_size(at + label, most));
        var b0 = unbounded();
        var b1 = unbounded();
        for (var c = 0u; c < p.classes; c++) {
            if c == label {
                continue;
            }
            let slope = cache[from_cache + c];
            let fixed = base[at + c];
            var there0 = vec4<f32>(fixed);
            var there1 = there0;
            //# if KL
            let k = vec4<f32>(kl[at + c]);
            there0 = fma(gamma0, k, there0);
            there1 = fma(gamma1, k, there1);
            //# end
            let gain = own_slope - slope;
            let both = vec4<f32>(fma(p.reach, abs(slope), reach) + kl_size(at + c, most));
            b0 = bounded(b0, own0 - there0, gain, BLUR * (abs(own0) + abs(there0) + both));
            if count > 4u {
                b1 = bounded(b1, own1 - there1, gain, BLUR * (abs(own1) + abs(there1) + both));
            }
            if all(b0.outer_low > b0.outer_high) && (count <= 4u || all(b1.outer_low > b1.outer_high)) {
                break;
            }
        }
        tally_four(b0, 0u, count, at, label, from_cache, gamma0);
        if count > 4u {
            tally_four(b1, 4u, count - 4u, at, label, from_cache, gamma1);
        }
    }
    workgroupBarrier();
    if lid < count {
        var right = 0u;
        for (var i = 0u; i < p.alphas; i++) {
            right += atomicLoad(&edges[lid * (ALPHAS + 1u) + i]);
            counts[(beta * p.gammas + first + lid) * p.alphas + i] = right;
        }
    }
}
