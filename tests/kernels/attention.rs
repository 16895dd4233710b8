//! Attention over packed rows, with and without a shared prefix.

use tipi::low_level::kernels::attention::{self, Pattern, Span};

use crate::twins::attention::{Heads, Ragged};
use crate::twins::{Random, Tracked, check, check_rejects, widen};
use crate::{bits, check_half, gpu, run, run1_half, twins, up};

fn pattern(r: &Ragged, kernel: attention::Kernel) -> Pattern {
    let prefix = (r.prefix > 0).then_some(Span { start: 0, len: r.prefix });
    let mut start = r.prefix;
    let spans: Vec<Span> = r
        .lens
        .iter()
        .map(|len| {
            start += len;
            Span { start: start - len, len: *len }
        })
        .collect();
    let pattern = Pattern::with_kernel(gpu(), kernel, prefix, &spans, r.causal).unwrap();
    assert_eq!(pattern.rows(), r.rows());
    pattern
}

/// All kernels that run here, whichever this device would take.
fn attention_case(random: &mut Random, ragged: &Ragged, heads: Heads, size: f64) {
    for kernel in attention::Kernel::ALL.into_iter().filter(|k| k.runs_on(gpu().capabilities())) {
        attention_case_by(random, ragged, heads, size, kernel);
    }
}

fn attention_case_by(random: &mut Random, ragged: &Ragged, heads: Heads, size: f64, kernel: attention::Kernel) {
    let (rows, width) = (ragged.rows(), heads.width());
    let what = format!("attention {ragged:?}, {} heads of {}, ±{size}, by {kernel:?}", heads.count, heads.head);
    let (qkv, dy) = (random.vector_in(rows * 3 * width, -size, size), random.vector(rows * width));
    let (qkv_g, dy_g, pattern) = (up(&qkv, &[rows, 3 * width]), up(&dy, &[rows, width]), pattern(ragged, kernel));
    let [y, lse, weights, dqkv] = run(|rec| {
        let out = attention::forward(rec, &qkv_g, &pattern, heads.count)?;
        let weights = attention::weights(rec, &qkv_g, &out.lse, &pattern, heads.count)?;
        let dqkv = attention::backward(rec, &qkv_g, &out, &dy_g, &pattern, heads.count)?;
        Ok([out.y, out.lse, weights, dqkv])
    });
    if kernel == attention::Kernel::Tile && heads.head.is_multiple_of(16) {
        let half = run1_half(|rec| Ok(attention::forward_half(rec, &qkv_g, &pattern, heads.count)?.y));
        check_half(&format!("{what} as f16"), &half, &y);
    }
    let (qkv, dy) = (widen::<Tracked>(&qkv), widen::<Tracked>(&dy));
    let (y_t, lse_t) = twins::attention::forward(&qkv, ragged, heads);
    check(&what, &y, &y_t);
    check(&format!("{what} lse"), &lse, &lse_t);
    check(&format!("{what} weights"), &weights, &twins::attention::weights(&qkv, ragged, heads));
    check(&format!("{what} dqkv"), &dqkv, &twins::attention::backward(&qkv, &dy, ragged, heads));

    let longest = ragged.lens.iter().copied().max().unwrap_or(0);
    let rejects = |error: &str, ragged: &Ragged, heads: Heads| {
        check_rejects(&what, error, &y, &twins::attention::forward(&qkv, ragged, heads).0);
        let wrong = twins::attention::backward(&qkv, &dy, ragged, heads);
        check_rejects(&format!("{what} dqkv"), error, &dqkv, &wrong);
    };
    if longest > 2 {
        rejects("the other mask", &Ragged { causal: !ragged.causal, ..ragged.clone() }, heads);
        if heads.head > 1 {
            rejects("no scale", ragged, Heads { unscaled: true, ..heads });
        }
        if ragged.prefix > 0 {
            // The prefix's rows as a sequence that nobody else sees.
            let lens = [&[ragged.prefix], &ragged.lens[..]].concat();
            rejects("no prefix", &Ragged { prefix: 0, lens, ..ragged.clone() }, heads);
        }
        if ragged.lens.len() > 1 {
            let lens = vec![ragged.lens.iter().sum()];
            rejects("sequences that see each other", &Ragged { lens, ..ragged.clone() }, heads);
        }
    }
}

#[test]
fn attention_forward_weights_and_backward() {
    let mut random = Random::new(13);
    for (count, head) in [(1, 1), (3, 12), (2, 16), (1, 33), (3, 64), (2, 80)] {
        let heads = Heads { count, head, unscaled: false };
        for causal in [false, true] {
            for prefix in [0, 5] {
                let ragged = Ragged { prefix, lens: vec![7, 1, 33, 2], causal };
                attention_case(&mut random, &ragged, heads, 1.0);
            }
        }
    }
    let heads = Heads { count: 2, head: 12, unscaled: false };
    for causal in [false, true] {
        for (prefix, lens) in [
            (0, vec![1]),
            (0, vec![70]),
            (0, vec![32, 64, 65, 31]),
            (40, vec![3, 70, 1, 35]),
            (1, vec![1, 1]),
            (64, vec![5, 5, 5]),
            (3, vec![]),
        ] {
            attention_case(&mut random, &Ragged { prefix, lens, causal }, heads, 1.0);
        }
        // Scores up to ±40: the running maximum has to move.
        attention_case(&mut random, &Ragged { prefix: 4, lens: vec![9, 40], causal }, heads, 6.0);
    }
}

#[test]
fn uniform_patterns_are_equal_spans() {
    let mut random = Random::new(14);
    let (batch, tokens, heads) = (3, 17, 2);
    let qkv = up(&random.vector(batch * tokens * 3 * 24), &[batch * tokens, 72]);
    for causal in [false, true] {
        let uniform = Pattern::uniform(gpu(), batch, tokens, causal).unwrap();
        let kernel = attention::Kernel::select(gpu().capabilities(), batch * tokens);
        let spans = pattern(&Ragged { prefix: 0, lens: vec![tokens; batch], causal }, kernel);
        let [a, b] = run(|rec| {
            Ok([attention::forward(rec, &qkv, &uniform, heads)?.y, attention::forward(rec, &qkv, &spans, heads)?.y])
        });
        assert_eq!(bits(&a), bits(&b));
    }
}
