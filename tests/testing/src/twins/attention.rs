//! Twin of `attention`: for every sequence the plain matrices, prefix and own rows written out.

use super::real::{Real, dot, log_sum_exp};

/// Which sequences there are: rows of a prefix (0: none) that all share, then each sequence's rows.
#[derive(Clone, Debug)]
pub struct Ragged {
    pub prefix: usize,
    pub lens: Vec<usize>,
    pub causal: bool,
}

impl Ragged {
    pub fn rows(&self) -> usize {
        self.prefix + self.lens.iter().sum::<usize>()
    }

    /// Keys of the longest sequence with the prefix before it.
    pub fn longest(&self) -> usize {
        self.prefix + self.lens.iter().copied().max().unwrap_or(0)
    }

    /// For each row the rows that it attends to, in order, prefix first.
    pub fn seen(&self) -> Vec<Vec<usize>> {
        let mut all = Vec::new();
        let mut sequence = |before: &[usize], start: usize, len: usize| {
            for i in 0..len {
                let own = start..start + if self.causal { i + 1 } else { len };
                all.push(before.iter().copied().chain(own).collect());
            }
        };
        sequence(&[], 0, self.prefix);
        let prefix: Vec<usize> = (0..self.prefix).collect();
        let mut start = self.prefix;
        for len in &self.lens {
            sequence(&prefix, start, *len);
            start += len;
        }
        all
    }
}

/// Heads and their width.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub count: usize,
    pub head: usize,
    /// Errors to be planted: scores without 1/√head.
    pub unscaled: bool,
}

impl Heads {
    pub fn width(self) -> usize {
        self.count * self.head
    }

    /// Row `row`'s part of qkv: 0 query, 1 key, 2 value.
    fn part<T>(self, qkv: &[T], row: usize, part: usize, head: usize) -> &[T] {
        &qkv[(row * 3 + part) * self.width() + head * self.head..][..self.head]
    }

    fn scale<T: Real>(self) -> T {
        let root = T::of(self.head as f64).sqrt();
        if self.unscaled { T::of(1.0) } else { T::of(1.0) / root }
    }

    /// Scores of `row` against the rows it sees.
    fn scores<T: Real>(self, qkv: &[T], row: usize, seen: &[usize], head: usize) -> Vec<T> {
        let q = self.part(qkv, row, 0, head);
        seen.iter().map(|j| dot(q, self.part(qkv, *j, 1, head)) * self.scale()).collect()
    }
}

/// The weights of one row and head, and the log of their denominator.
fn attend<T: Real>(scores: &[T]) -> (Vec<T>, T) {
    let lse = log_sum_exp(scores);
    (scores.iter().map(|s| (*s - lse).exp()).collect(), lse)
}

/// y [rows, width] and lse [rows, heads].
pub fn forward<T: Real>(qkv: &[T], r: &Ragged, h: Heads) -> (Vec<T>, Vec<T>) {
    let (mut y, mut lses) = (Vec::new(), Vec::new());
    for (row, seen) in r.seen().iter().enumerate() {
        for head in 0..h.count {
            let (w, lse) = attend(&h.scores(qkv, row, seen, head));
            let mut out = vec![T::zero(); h.head];
            for (w, j) in w.iter().zip(seen) {
                for (o, v) in out.iter_mut().zip(h.part(qkv, *j, 2, head)) {
                    *o = *o + *w * *v;
                }
            }
            y.extend(out);
            lses.push(lse);
        }
    }
    (y, lses)
}

/// The weights [rows, heads, longest], zeros after the keys that a row sees.
pub fn weights<T: Real>(qkv: &[T], r: &Ragged, h: Heads) -> Vec<T> {
    let mut all = Vec::new();
    for (row, seen) in r.seen().iter().enumerate() {
        for head in 0..h.count {
            let (mut w, _) = attend(&h.scores(qkv, row, seen, head));
            w.resize(r.longest(), T::zero());
            all.extend(w);
        }
    }
    all
}

/// dqkv [rows, 3·width]. A row of the prefix gets the sum over all that see it.
pub fn backward<T: Real>(qkv: &[T], dy: &[T], r: &Ragged, h: Heads) -> Vec<T> {
    let mut dqkv = vec![T::zero(); qkv.len()];
    let mut add = |row: usize, part: usize, head: usize, factor: T, vector: &[T]| {
        let start = (row * 3 + part) * h.width() + head * h.head;
        for (d, v) in dqkv[start..][..h.head].iter_mut().zip(vector) {
            *d = *d + factor * *v;
        }
    };
    for (row, seen) in r.seen().iter().enumerate() {
        for head in 0..h.count {
            let (w, _) = attend(&h.scores(qkv, row, seen, head));
            let d = &dy[row * h.width() + head * h.head..][..h.head];
            let dw: Vec<T> = seen.iter().map(|j| dot(d, h.part(qkv, *j, 2, head))).collect();
            let mean = dot(&w, &dw);
            for ((w, dw), j) in w.iter().zip(&dw).zip(seen) {
                let ds = *w * (*dw - mean) * h.scale();
                add(*j, 2, head, *w, d);
                add(row, 0, head, ds, h.part(qkv, *j, 1, head));
                add(*j, 1, head, ds, h.part(qkv, row, 0, head));
            }
        }
    }
    dqkv
}
