//! Numbers that come from outside: what is loaded is finite, and what is chosen lies in a range in which no product or sum
//! leaves f32.

use std::path::Path;

use crate::{Error, Result, input};

/// Place of the first value that is NaN or infinite.
pub fn not_finite(values: &[f32]) -> Option<usize> {
    /// Values looked at together; only where one of them is not finite is it looked for.
    const BLOCK: usize = 4096;
    const MAGNITUDE: u32 = 0x7fff_ffff;
    for (number, block) in values.chunks(BLOCK).enumerate() {
        // Without its sign, a float is finite where its bits are below those of infinity.
        let largest = block.iter().fold(0, |largest, v| (v.to_bits() & MAGNITUDE).max(largest));
        if largest >= f32::INFINITY.to_bits() {
            return block.iter().position(|v| !v.is_finite()).map(|at| number * BLOCK + at);
        }
    }
    None
}

/// Checks that all values of a tensor in a file are finite. `first` is the place that the first of `values` has in the
/// tensor, and `width` the length of its rows.
///
/// # Errors
/// [`Error::NotFinite`], with the file, the tensor and the place.
pub fn check_tensor(path: &Path, tensor: &str, values: &[f32], first: usize, width: usize) -> Result<()> {
    let Some(at) = not_finite(values) else { return Ok(()) };
    let place = first.saturating_add(at);
    let value = values.get(at).copied().unwrap_or(f32::NAN);
    let (row, column) = (place / width.max(1), place % width.max(1));
    Err(Error::NotFinite { path: path.to_path_buf(), tensor: tensor.into(), row, column, value })
}

/// The values that a setting may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Range {
    /// From `least` to `most`, both included.
    pub const fn new(least: f64, most: f64) -> Range {
        Range { least, most }
    }

    /// The value if it lies in the range; `what` names it in the error.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the range for a value outside it, or none at all (NaN).
    pub fn check(self, what: &str, value: f64) -> Result<f64> {
        if (self.least..=self.most).contains(&value) {
            return Ok(value);
        }
        Err(Error::invalid(format!("{what} {} must be from {self}", shown(value))))
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", shown(self.least), shown(self.most))
    }
}

/// A number in few characters, whatever its size.
fn shown(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e7).contains(&size) || !value.is_finite() {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// s = exp(logit_scale); 100 in OpenAI's models.
pub const LOGIT_SCALE: Range = Range::new(1e-6, 1e6);
/// α and γ.
pub const WEIGHT: Range = Range::new(-1e9, 1e9);
/// β. Affinities are exp(−β(1 − cos)), which a β far below 0 takes past f32.
pub const SHARPNESS: Range = Range::new(-20.0, 1e9);
/// Rates of learning.
pub const RATE: Range = Range::new(1e-12, 1e3);
/// Weight decay and momentum.
pub const DECAY: Range = Range::new(0.0, 1.0);
/// The factor of a correction's branch.
pub const BRANCH: Range = Range::new(1e-6, 1e3);
/// The share that is dropped in training; it must stay below 1.
pub const DROPOUT: Range = Range::new(0.0, 0.99);
/// The temperature of a softmax.
pub const TEMPERATURE: Range = Range::new(1e-3, 1e3);
/// A probability.
pub const PROBABILITY: Range = Range::new(0.0, 1.0);
/// A least likeness.
pub const COSINE: Range = Range::new(-1.0, 1.0);

/// What is taken for the host's memory where the system does not say.
const UNKNOWN_MEMORY: u64 = 64 << 30;

/// Bytes of host memory that can still be had: what Linux says, for all and for this control group.
fn available_memory() -> u64 {
    let read = |path: &str| input::read_text(Path::new(path), input::limit::CONFIG).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let of_all = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    });
    let group = "/sys/fs/cgroup/memory";
    let of_group = number(&format!("{group}.max"))
        .zip(number(&format!("{group}.current")))
        .map(|(most, now)| most.saturating_sub(now));
    of_all.into_iter().chain(of_group).min().unwrap_or(UNKNOWN_MEMORY)
}

/// Checks, before any of it is asked for, that the host has memory for `factors` multiplied, with `bytes` for each.
///
/// # Errors
/// [`Error::Invalid`] with the factors and the bytes, where there is too little.
pub(crate) fn check_memory(what: &str, factors: &[(usize, &str)], bytes: usize) -> Result<()> {
    let needed = factors.iter().fold(bytes as u64, |all, (n, _)| all.saturating_mul(*n as u64));
    // Asking the system takes longer than a small allocation.
    const SMALL: u64 = 256 << 20;
    if needed <= SMALL {
        return Ok(());
    }
    let there = available_memory();
    if needed <= there {
        return Ok(());
    }
    let product: Vec<String> = factors.iter().map(|(n, name)| format!("{n} {name}")).collect();
    let megabytes = |bytes: u64| bytes / 1_000_000;
    Err(Error::invalid(format!(
        "{what}: {} need {} MB of memory, and {} MB are there; take less of one of them",
        product.join(" × "),
        megabytes(needed),
        megabytes(there)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_is_not_finite_is_found_wherever_it_is() {
        for length in [0, 1, 5, 4096, 4097, 10_000] {
            let mut values = vec![f32::MAX; length];
            assert_eq!(not_finite(&values), None);
            for at in [0, length / 2, length.saturating_sub(1)] {
                for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let Some(value) = values.get_mut(at) else { continue };
                    *value = odd;
                    assert_eq!(not_finite(&values), Some(at), "{odd} at {at} of {length}");
                    values[at] = -1e-45;
                }
            }
        }
    }

    #[test]
    fn the_error_names_file_tensor_and_place() {
        let error = check_tensor(Path::new("a/b.st"), "weights", &[0.0, 1.0, f32::NAN], 5, 3).unwrap_err().to_string();
        for needle in ["a/b.st", "'weights'", "row 2", "column 1", "NaN"] {
            assert!(error.contains(needle), "{error}");
        }
    }

    #[test]
    fn values_outside_a_range_are_refused_with_the_range() {
        assert_eq!(RATE.check("lr", 0.5).unwrap(), 0.5);
        for value in [f64::NAN, f64::INFINITY, -0.5, 0.0, 1e39, 1e-40] {
            let error = RATE.check("lr", value).unwrap_err().to_string();
            assert!(error.contains("lr") && error.contains("from 1e-12 to 1000"), "{error}");
        }
    }

    #[test]
    fn what_no_memory_can_hold_is_refused_with_the_numbers() {
        check_memory("a small thing", &[(1000, "rows"), (1000, "columns")], 4).unwrap();
        for factors in [[(1 << 30, "pictures"), (1 << 20, "views")], [(usize::MAX, "pictures"), (usize::MAX, "views")]]
        {
            let error = check_memory("features", &factors, 4).unwrap_err().to_string();
            for needle in ["features", "pictures × ", "views need ", " MB "] {
                assert!(error.contains(needle), "{error}");
            }
        }
    }

    /// The ranges bear each other's ends: the largest logits that α, β, γ and s allow stay in f32 with a million keys of
    /// one class.
    #[test]
    fn products_of_the_largest_values_stay_in_f32() {
        let affinity = (-SHARPNESS.least * 2.0).exp();
        let keys = 1e6;
        let largest = LOGIT_SCALE.most + WEIGHT.most * affinity * keys + WEIGHT.most * keys;
        assert!(largest < f64::from(f32::MAX) && (LOGIT_SCALE.least as f32) > f32::MIN_POSITIVE);
        assert!(f64::from(f32::MIN_POSITIVE) < BRANCH.least && f64::from(f32::MIN_POSITIVE) < RATE.least);
    }
}
