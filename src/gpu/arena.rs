//! Where a plan's temporaries live: places by lifetime, worked out once, when recording is over.
//!
//! A temporary lives from its first dispatch to its last, or to the plan's end where the caller still holds it. Those
//! whose lives do not meet share a place. One place is one buffer (or texture), not a range of one large buffer: WebGPU
//! forbids a dispatch to read one part of a buffer through a read-only binding and write another.

use std::ops::RangeInclusive;

/// How large a temporary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// A buffer of this many bytes.
    Bytes(u64),
    /// A texture of this many texels across and down, and bytes of one.
    Texels(u32, u32, u32),
}

impl Extent {
    /// Bytes of memory.
    pub fn bytes(self) -> u64 {
        match self {
            Extent::Bytes(bytes) => bytes,
            Extent::Texels(width, height, texel) => u64::from(width) * u64::from(height) * u64::from(texel),
        }
    }

    /// Whether a temporary of this extent can live in a place of extent `place`.
    pub fn fits(self, place: Extent) -> bool {
        match (self, place) {
            (Extent::Bytes(own), Extent::Bytes(other)) => own <= other,
            (Extent::Texels(w, h, texel), Extent::Texels(width, height, other)) => {
                w <= width && h <= height && texel == other
            }
            _ => false,
        }
    }
}

/// A temporary: its extent, and the dispatches between which its contents count.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub extent: Extent,
    pub span: RangeInclusive<usize>,
}

/// The places of a plan, and in which of them each temporary lives.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arena {
    pub places: Vec<Extent>,
    /// For each temporary the number of its place.
    pub of: Vec<usize>,
}

impl Arena {
    /// Gives every temporary a place, the largest first: each takes the smallest place that it fits and that is free for
    /// all its life, or a new one.
    pub fn lay_out(lives: &[Life]) -> Arena {
        let mut order: Vec<usize> = (0..lives.len()).collect();
        order.sort_by_key(|i| (std::cmp::Reverse(lives[*i].extent.bytes()), *i));
        let mut arena = Arena { places: Vec::new(), of: vec![0; lives.len()] };
        let mut taken: Vec<Vec<&RangeInclusive<usize>>> = Vec::new();
        for i in order {
            let life = &lives[i];
            let free = |spans: &[&RangeInclusive<usize>]| {
                spans.iter().all(|s| life.span.end() < s.start() || s.end() < life.span.start())
            };
            let place = (0..taken.len())
                .filter(|p| life.extent.fits(arena.places[*p]) && free(&taken[*p]))
                .min_by_key(|p| arena.places[*p].bytes());
            let place = place.unwrap_or_else(|| {
                arena.places.push(life.extent);
                taken.push(Vec::new());
                taken.len() - 1
            });
            taken[place].push(&life.span);
            arena.of[i] = place;
        }
        arena
    }

    /// Bytes of all places.
    pub fn bytes(&self) -> u64 {
        self.places.iter().map(|p| p.bytes()).sum()
    }
}

/// The most bytes that are alive at one time: no layout can do with less.
pub(super) fn peak(lives: &[Life]) -> u64 {
    let mut changes: Vec<(usize, i64)> = Vec::with_capacity(2 * lives.len());
    for life in lives {
        changes.push((*life.span.start(), life.extent.bytes() as i64));
        changes.push((*life.span.end() + 1, -(life.extent.bytes() as i64)));
    }
    // What ends before a dispatch is gone before what begins with it.
    changes.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    most as u64
}

#[cfg(test)]
mod tests {
    use super::{Arena, Extent, Life, peak};
    use proptest::prelude::*;

    fn life(bytes: u64, first: usize, last: usize) -> Life {
        Life { extent: Extent::Bytes(bytes), span: first..=last }
    }

    #[test]
    fn temporaries_that_never_meet_share_a_place() {
        let lives = [life(100, 0, 1), life(80, 2, 3), life(100, 1, 2), life(10, 4, 9)];
        let arena = Arena::lay_out(&lives);
        assert_eq!(arena.of[0], arena.of[1]);
        assert_ne!(arena.of[0], arena.of[2]);
        assert_eq!((arena.bytes(), peak(&lives)), (200, 200));
    }

    #[test]
    fn textures_and_buffers_stay_apart_and_a_texture_must_fit_both_ways() {
        let texture = |w, h, first, last| Life { extent: Extent::Texels(w, h, 16), span: first..=last };
        let lives = [life(1 << 20, 0, 0), texture(8, 100, 1, 1), texture(9, 10, 2, 2), texture(8, 10, 3, 3)];
        let arena = Arena::lay_out(&lives);
        assert_eq!(arena.places.len(), 3);
        assert_ne!(arena.of[1], arena.of[2]);
        assert!(arena.of[3] == arena.of[2], "the smallest place that fits");
    }

    proptest! {
        #[test]
        fn no_two_lives_meet_in_one_place(
            raw in prop::collection::vec((1u64..1000, 0usize..50, 0usize..20), 1..60)
        ) {
            let lives: Vec<Life> = raw.iter().map(|(b, first, n)| life(*b, *first, first + n)).collect();
            let arena = Arena::lay_out(&lives);
            for (i, a) in lives.iter().enumerate() {
                prop_assert!(a.extent.fits(arena.places[arena.of[i]]));
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    let apart = a.span.end() < b.span.start() || b.span.end() < a.span.start();
                    prop_assert!(apart || arena.of[i] != arena.of[j]);
                }
            }
            prop_assert!(arena.bytes() >= peak(&lives));
        }
    }
}
