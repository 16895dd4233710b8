//! CPython's `random.Random`: the few-shot choices that papers report are draws of it, so reproducing their splits
//! means reproducing the generator.
//!
//! The Mersenne Twister MT19937 of M. Matsumoto and T. Nishimura (1998) with their `init_by_array` seeding, as in
//! CPython's `Modules/_randommodule.c`, and the algorithms on top of it of `Lib/random.py`, both of version 3.11.

use std::collections::HashSet;

use crate::{Error, Result};

/// Words of state.
const N: usize = 624;
/// How far ahead the recurrence reads.
const M: usize = 397;

/// The generator behind Python's `random.seed(n)` for a non-negative integer `n`.
///
/// ```
/// use tipi::low_level::data::PythonRandom;
/// // python3 -c "import random; random.seed(1); print(random.sample(range(10), 3))"
/// assert_eq!(PythonRandom::new(1).sample(10, 3)?, [2, 1, 4]);
/// # Ok::<(), tipi::Error>(())
/// ```
#[derive(Clone)]
pub struct PythonRandom {
    state: [u32; N],
    /// Words of `state` already given out.
    used: usize,
}

impl std::fmt::Debug for PythonRandom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PythonRandom").field("used", &self.used).finish_non_exhaustive()
    }
}

impl PythonRandom {
    /// `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        // Python takes the seed's 32-bit words, lowest first, without leading zeros; 0 is one word.
        let words = [seed as u32, (seed >> 32) as u32];
        Self::from_key(if words[1] == 0 { &words[..1] } else { &words })
    }

    /// MT19937 from a key of one or more words (`init_by_array`).
    fn from_key(key: &[u32]) -> Self {
        let mut state = [0u32; N];
        state[0] = 19_650_218;
        for i in 1..N {
            let previous = state[i - 1];
            state[i] = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        let mut i = 1;
        let mut j = 0;
        let mixed = |state: &[u32; N], i: usize, factor: u32| {
            let previous = state[i - 1];
            state[i] ^ (previous ^ (previous >> 30)).wrapping_mul(factor)
        };
        for _ in 0..N.max(key.len()) {
            state[i] = mixed(&state, i, 1_664_525).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            j += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
            if j == key.len() {
                j = 0;
            }
        }
        for _ in 1..N {
            state[i] = mixed(&state, i, 1_566_083_941).wrapping_sub(i as u32);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, used: N }
    }

    /// The next 32 bits.
    fn next_word(&mut self) -> u32 {
        if self.used == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let twist = if y & 1 == 0 { 0 } else { 0x9908_b0df };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
            }
            self.used = 0;
        }
        let mut y = self.state[self.used];
        self.used += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `random.random()`: uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.next_word() >> 5);
        let low = f64::from(self.next_word() >> 6);
        (high * 67_108_864.0 + low) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// `random.uniform(a, b)`: uniform between `a` and `b`.
    pub fn uniform(&mut self, a: f64, b: f64) -> f64 {
        a + (b - a) * self.random()
    }

    /// A standard normal by Box–Muller; not Python's, which keeps every second one.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.random()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.random()).cos()
    }

    /// `random.getrandbits(k)`: `k` random bits, `k` taken as at most 64; 0 bits draw nothing and are 0.
    pub fn getrandbits(&mut self, k: u32) -> u64 {
        match k.min(64) {
            0 => 0,
            k @ 1..=32 => u64::from(self.next_word() >> (32 - k)),
            // Words come lowest first; only the last is shortened.
            k => {
                let low = u64::from(self.next_word());
                low | u64::from(self.next_word() >> (64 - k)) << 32
            }
        }
    }

    /// Python's `Random._randbelow(n)`: uniform in 0..n, by drawing bits until they are below `n`. 0 for `n` = 0,
    /// which Python leaves undefined.
    pub fn randbelow(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let bits = n.ilog2() + 1;
        loop {
            let drawn = self.getrandbits(bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// [`Self::randbelow`] for indices.
    fn index_below(&mut self, n: usize) -> usize {
        self.randbelow(n as u64) as usize
    }

    /// `random.shuffle(items)`, in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.index_below(i + 1);
            items.swap(i, j);
        }
    }

    /// `random.sample(range(n), k)`: `k` different indices below `n`, in the order drawn.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `k` exceeds `n`.
    pub fn sample(&mut self, n: usize, k: usize) -> Result<Vec<usize>> {
        if k > n {
            return Err(Error::invalid(format!("cannot choose {k} different ones of {n}: choose at most {n}")));
        }
        // Python draws from a list when it is no larger than the set it would otherwise need; the two consume the
        // generator differently. It computes 4 ** ceil(log(3k, 4)); 3k is no power of 4, so integers give the same.
        let mut set_size = 21;
        if k > 5 {
            let mut table = 1usize;
            while table < k.saturating_mul(3) {
                table = table.saturating_mul(4);
            }
            set_size += table;
        }
        let mut chosen = Vec::with_capacity(k);
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            for taken in 0..k {
                let last = n - taken - 1;
                let j = self.index_below(last + 1);
                chosen.push(pool[j]);
                pool[j] = pool[last];
            }
        } else {
            let mut seen = HashSet::with_capacity(k);
            while chosen.len() < k {
                let j = self.index_below(n);
                if seen.insert(j) {
                    chosen.push(j);
                }
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    // Every expectation is the output of CPython 3.11.
    use super::*;

    #[test]
    fn the_first_random_of_seeds_of_one_and_two_words() {
        for (seed, expected) in [
            (0, 0.844_421_851_525_048_1),
            (1, 0.134_364_244_112_401_22),
            (u64::MAX, 0.021_825_695_401_270_107),
            (1 << 32, 0.112_994_300_956_364_09),
        ] {
            assert_eq!(PythonRandom::new(seed).random(), expected, "{seed}");
        }
    }

    #[test]
    fn bits_of_every_width() {
        let mut random = PythonRandom::new(42);
        let drawn = [0, 1, 5, 31, 32, 33, 53, 64].map(|k| random.getrandbits(k));
        assert_eq!(
            drawn,
            [0, 1, 3, 53_710_184, 3_184_935_163, 1_181_241_943, 1_256_845_828_445_918, 1_890_702_223_848_595_625]
        );
    }

    #[test]
    fn below_small_and_large_bounds() {
        let mut random = PythonRandom::new(9);
        let drawn = [1, 2, 3, 7, 8, 9, 1000, 1 << 32, (1 << 40) + 1].map(|n| random.randbelow(n));
        assert_eq!(drawn, [0, 1, 1, 1, 2, 0, 346, 2_159_432_582, 734_786_503_895]);
        assert_eq!(random.randbelow(0), 0);
    }

    #[test]
    fn uniform_between_bounds() {
        assert_eq!(PythonRandom::new(3).uniform(0.5, 1.0), 0.618_982_313_545_945_7);
    }

    #[test]
    fn the_state_is_renewed_after_its_last_word() {
        let mut random = PythonRandom::new(17);
        for _ in 0..N * 2 {
            random.getrandbits(32);
        }
        assert_eq!(random.getrandbits(32), 1_576_805_679);
    }

    #[test]
    fn shuffle_and_what_it_leaves() {
        let mut random = PythonRandom::new(5);
        let mut items: Vec<usize> = (0..12).collect();
        random.shuffle(&mut items);
        assert_eq!(items, [10, 2, 11, 7, 1, 3, 6, 0, 8, 5, 4, 9]);
        assert_eq!(random.getrandbits(32), 1_596_840_319);
        random.shuffle::<u8>(&mut []);
    }

    #[test]
    fn samples_and_what_they_leave() {
        // (seed, n, k, sample, the next 32 bits). The seeds are such that a wrong choice between the pool and the set
        // would show, and the sizes lie on both sides of the border: 21, 85 and 277.
        #[rustfmt::skip]
        let cases: [(u64, usize, usize, &[usize], u64); 12] = [
            (7, 1, 1, &[0], 4_071_050_724),
            (7, 1, 0, &[], 1_390_851_128),
            (0, 5, 5, &[3, 4, 0, 1, 2], 1_739_178_872),
            (2, 21, 5, &[1, 2, 19, 11, 5], 3_160_967_032),
            (2, 22, 5, &[1, 2, 11, 5, 21], 3_667_190_760),
            (5, 85, 6, &[79, 32, 45, 67, 3, 59], 3_332_716_663),
            (2, 86, 6, &[7, 11, 10, 46, 21, 85], 3_667_190_760),
            (0, 85, 21, &[49, 53, 5, 33, 65, 62, 51, 38, 61, 45, 74, 27, 64, 17, 36, 71, 12, 32, 18, 39, 68], 3_134_603_515),
            (0, 86, 21, &[49, 53, 5, 33, 65, 62, 51, 38, 61, 45, 74, 27, 64, 17, 36, 12, 79, 32, 68, 77, 18], 1_332_073_689),
            (0, 277, 22, &[197, 215, 20, 132, 261, 248, 207, 155, 244, 183, 111, 258, 71, 144, 264, 48, 128, 75, 158, 50, 37, 169], 2_027_837_527),
            (0, 278, 22, &[197, 215, 20, 132, 261, 248, 207, 155, 244, 183, 111, 258, 71, 144, 48, 128, 272, 75, 158, 50, 37, 169], 2_027_837_527),
            (12_345_678_901_234_567, 300, 20, &[49, 292, 287, 141, 166, 102, 104, 181, 190, 165, 235, 139, 113, 193, 271, 88, 208, 27, 87, 254], 279_317_623),
        ];
        for (seed, n, k, expected, next) in cases {
            let mut random = PythonRandom::new(seed);
            assert_eq!(random.sample(n, k).unwrap(), expected, "seed {seed}, {k} of {n}");
            assert_eq!(random.getrandbits(32), next, "after seed {seed}, {k} of {n}");
        }
    }

    #[test]
    fn a_sample_larger_than_the_population_is_an_error() {
        let error = PythonRandom::new(1).sample(3, 4).unwrap_err().to_string();
        assert!(error.contains("4 different ones of 3"), "{error}");
    }
}
