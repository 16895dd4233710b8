// Counts right answers at every point of a grid: for each β, γ and α the rows whose largest logit
// base + γ·kl + α·cache[β] is the label's, the first of equals winning. counts [betas, gammas, alphas].
//
// Along α every logit is a straight line, so the values of α at which the label beats one other class are a run from
// some point to an end of the (ascending) grid, and those at which it beats all are one interval. So a row costs one
// pass over the classes for all values of α together. Two intervals are kept: `inner`, where the label wins by more
// than f32 can blur, and `outer`, outside of which it loses by more than that. The few points between are decided by
// the plain comparison of the logits themselves, so that the counts are those of a plain loop over the grid.
//
// One workgroup per β and γ. Open constants: ALPHAS (room for values of α), KL (whether there is a kl term).

struct Params {
    rows: u32,
    classes: u32,
    alphas: u32,
    betas: u32,
    gammas: u32,
    reach: f32, // largest |α|
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> base: array<f32>;   // [rows, classes]
@group(0) @binding(2) var<storage, read> cache: array<f32>;  // [betas, rows, classes]
@group(0) @binding(3) var<storage, read> kl: array<f32>;     // [rows, classes]
@group(0) @binding(4) var<storage, read> labels: array<u32>; // [rows]
@group(0) @binding(5) var<storage, read> alphas: array<f32>;
@group(0) @binding(6) var<storage, read> gammas: array<f32>;
@group(0) @binding(7) var<storage, read_write> counts: array<u32>;

// Eight units in the last place: more than the rounding of both ways of comparing together.
const BLUR: f32 = 4.8e-7;

// Where intervals begin, less where they end; then single points.
var<workgroup> edges: array<atomic<u32>, ALPHAS + 1>;

fn static_part(at: u32, gamma: f32) -> f32 {
    if KL == 1u {
        return fma(gamma, kl[at], base[at]);
    }
    return base[at];
}

// The plain comparison.
fn is_right(at: u32, from_cache: u32, label: u32, alpha: f32, gamma: f32) -> bool {
    let own = fma(alpha, cache[from_cache + label], static_part(at + label, gamma));
    for (var c = 0u; c < p.classes; c++) {
        let v = fma(alpha, cache[from_cache + c], static_part(at + c, gamma));
        if v > own || (v == own && c < label) {
            return false;
        }
    }
    return true;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let point = wid.y * nwg.x + wid.x;
    if point >= p.betas * p.gammas {
        return;
    }
    for (var k = lid; k <= ALPHAS; k += 64u) {
        atomicStore(&edges[k], 0u);
    }
    workgroupBarrier();
    let gamma = gammas[point % p.gammas];
    let beta = point / p.gammas;
    for (var row = lid; row < p.rows; row += 64u) {
        let at = row * p.classes;
        let from_cache = (beta * p.rows + row) * p.classes;
        let label = min(labels[row], p.classes - 1u);
        let own = static_part(at + label, gamma);
        let own_slope = cache[from_cache + label];
        let size = abs(own) + p.reach * abs(own_slope);
        var inner = vec2<u32>(0u, p.alphas);
        var outer = vec2<u32>(0u, p.alphas);
        for (var c = 0u; c < p.classes; c++) {
            if c == label {
                continue;
            }
            let there = static_part(at + c, gamma);
            let slope = cache[from_cache + c];
            let lead = own - there;
            let gain = own_slope - slope;
            let blur = BLUR * (size + abs(there) + p.reach * abs(slope));
            // The lead changes at most from here to there: most classes never come near.
            let least = lead + min(alphas[outer.x] * gain, alphas[outer.y - 1u] * gain);
            if least > 2.0 * blur {
                continue;
            }
            if gain >= 0.0 {
                while outer.x < outer.y && fma(alphas[outer.x], gain, lead) < -blur {
                    outer.x++;
                }
                inner.x = max(inner.x, outer.x);
                while inner.x < inner.y && fma(alphas[inner.x], gain, lead) <= blur {
                    inner.x++;
                }
            } else {
                while outer.x < outer.y && fma(alphas[outer.y - 1u], gain, lead) < -blur {
                    outer.y--;
                }
                inner.y = min(inner.y, outer.y);
                while inner.x < inner.y && fma(alphas[inner.y - 1u], gain, lead) <= blur {
                    inner.y--;
                }
            }
            if outer.x >= outer.y {
                break;
            }
        }
        if inner.x < inner.y {
            atomicAdd(&edges[inner.x], 1u);
            atomicSub(&edges[inner.y], 1u);
        }
        for (var i = outer.x; i < outer.y; i++) {
            if i >= inner.x && i < inner.y {
                continue;
            }
            if is_right(at, from_cache, label, alphas[i], gamma) {
                atomicAdd(&edges[i], 1u);
                atomicSub(&edges[i + 1u], 1u);
            }
        }
    }
    workgroupBarrier();
    if lid == 0u {
        var count = 0u;
        for (var i = 0u; i < p.alphas; i++) {
            count += atomicLoad(&edges[i]);
            counts[point * p.alphas + i] = count;
        }
    }
}
