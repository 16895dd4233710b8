// The best of many scores, as they come by in blocks. A block holds the scores of `candidates` candidates for `lists` lists:
// candidate c's for list l lies at c·along + l·across, so that one block serves its columns or its rows. The candidates'
// numbers are first, first + 1, ….
//
// keep: best, which [most, lists] are each list's best scores so far and whose they are: a heap whose root, the first row, is the
// worst of them. Of equal scores the lower number is the better one, so what is kept does not depend on the order in which blocks
// come. A list passes over the candidate `own` [lists]. What is not filled yet has a score below all others. One invocation per list.
//
// alike: bit c % 32 of words [⌈candidates/32⌉, lists] says whether candidate c's score is `least` or more. One invocation per word.
//# import linear, quads

struct Params {
    candidates: u32,
    lists: u32,
    along: u32,
    across: u32,
    first: u32,
    most: u32,
    least: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> own: array<u32>;
@group(0) @binding(3) var<storage, read_write> best: array<f32>;
@group(0) @binding(4) var<storage, read_write> which: array<u32>;
@group(0) @binding(5) var<storage, read_write> words: array<u32>;

// Whether the first is worse than the second.
fn is_worse(score: f32, number: u32, other: f32, other_number: u32) -> bool {
    return score < other || (score == other && number > other_number);
}

// Puts a candidate in the place of a list's worst, and lets it sink to where those below it are better.
fn replace_worst(list: u32, score: f32, number: u32) {
    var at = 0u;
    var place = list;
    loop {
        let child = 2u * at + 1u;
        if child >= p.most {
            break;
        }
        var lower = child;
        var below = child * p.lists + list;
        if child + 1u < p.most {
            let beside = below + p.lists;
            if is_worse(best[beside], which[beside], best[below], which[below]) {
                lower = child + 1u;
                below = beside;
            }
        }
        let below_score = best[below];
        let below_number = which[below];
        if !is_worse(below_score, below_number, score, number) {
            break;
        }
        best[place] = below_score;
        which[place] = below_number;
        at = lower;
        place = below;
    }
    best[place] = score;
    which[place] = number;
}

@compute @workgroup_size(64)
fn keep(id: Invocation) {
    let list = number_of(id);
    if list >= p.lists {
        return;
    }
    let passed_over = own[list];
    let start = list * p.across;
    var worst = best[list];
    for (var candidate = 0u; candidate < p.candidates; candidate += 4u) {
        let places = four_from(candidate, p.candidates) * p.along + vec4<u32>(start);
        let four = vec4<f32>(scores[places.x], scores[places.y], scores[places.z], scores[places.w]);
        // Soon most are worse than all that is kept.
        if all(four < vec4<f32>(worst)) {
            continue;
        }
        //# unroll
        for (var i = 0u; i < 4u; i++) {
            let number = p.first + candidate + i;
            if candidate + i < p.candidates && four[i] >= worst && number != passed_over {
                if is_worse(worst, which[list], four[i], number) {
                    replace_worst(list, four[i], number);
                    worst = best[list];
                }
            }
        }
    }
}

@compute @workgroup_size(64)
fn alike(id: Invocation) {
    let i = number_of(id);
    if i >= (p.candidates + 31u) / 32u * p.lists {
        return;
    }
    let start = i % p.lists * p.across;
    let candidate = 32u * (i / p.lists);
    let count = min(32u, p.candidates - candidate);
    var word = 0u;
    for (var bit = 0u; bit < count; bit++) {
        if scores[(candidate + bit) * p.along + start] >= p.least {
            word |= 1u << bit;
        }
    }
    words[i] = word;
}
