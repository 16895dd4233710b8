//! How much at a time fits the memory, found by trying it in rehearsals.

use crate::{Error, Result};

/// The largest batch up to `most` at which `fits` does not run out of memory; 0 where even one picture is too much.
///
/// # Errors
/// What `fits` returns, other than [`Error::OutOfMemory`].
pub fn largest(most: usize, fits: &dyn Fn(usize) -> Result<()>) -> Result<usize> {
    let try_one = |batch| match fits(batch) {
        Ok(()) => Ok(true),
        Err(Error::OutOfMemory { .. }) => Ok(false),
        Err(error) => Err(error),
    };
    if most == 0 || try_one(most)? {
        return Ok(most);
    }
    // Memory grows with the batch.
    let (mut fitting, mut failing) = (0, most);
    while fitting + 1 < failing {
        let middle = fitting.midpoint(failing);
        if try_one(middle)? { fitting = middle } else { failing = middle }
    }
    Ok(fitting)
}

/// An error of running out of memory at what is done with `batch` pictures at a time, with the number that would fit; other
/// errors as they are. `rehearse` does the same in a rehearsal.
pub(crate) fn advise(error: Error, what: &str, batch: usize, rehearse: &dyn Fn(usize) -> Result<()>) -> Error {
    let Error::OutOfMemory { what: short, needed, why } = error else { return error };
    let why = match largest(batch.saturating_sub(1), rehearse) {
        Ok(0) | Err(_) => format!("{why}; not even one at a time would fit"),
        Ok(fits) => format!("{why}; a batch of {fits} at a time would fit"),
    };
    Error::OutOfMemory { what: format!("{what} {batch} pictures at a time ({short})"), needed, why }
}

#[cfg(test)]
mod tests {
    use super::largest;
    use crate::Error;

    #[test]
    fn the_largest_batch_is_found() {
        for most in [0usize, 1, 2, 7, 64] {
            for limit in 0..70 {
                let fits = |n: usize| match n <= limit {
                    true => Ok(()),
                    false => Err(Error::OutOfMemory { what: "x".into(), needed: 1, why: String::new() }),
                };
                assert_eq!(largest(most, &fits).unwrap(), most.min(limit));
            }
        }
        assert!(largest(4, &|_| Err(Error::invalid("other"))).is_err());
    }
}
