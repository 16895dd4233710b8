//! Bodies of answers that have to come at a least rate: one byte a second keeps every time limit on single reads, and would
//! never end.

use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

/// The least that an answer has to bring, in bytes a second, on average over a window as long as the time limit.
const LEAST_RATE: f64 = 1024.0;

/// Bytes that a window of `limit` has to bring.
pub(super) fn least(limit: Duration) -> u64 {
    (limit.as_secs_f64() * LEAST_RATE) as u64
}

/// A reader that fails where it brings too little.
pub(super) struct Steady<R> {
    inner: R,
    window: Duration,
    since: Instant,
    brought: u64,
}

impl<R: Read> Steady<R> {
    /// `window` is the time limit on a single read, too.
    pub(super) fn new(inner: R, window: Duration) -> Self {
        Self { inner, window, since: Instant::now(), brought: 0 }
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.brought += count as u64;
        let elapsed = self.since.elapsed();
        if count > 0 && elapsed >= self.window {
            let wanted = (elapsed.as_secs_f64() * LEAST_RATE) as u64;
            if self.brought < wanted {
                let (brought, seconds) = (self.brought, elapsed.as_secs_f32());
                let reason = format!("only {brought} bytes came in {seconds:.1} s, at least {wanted} should");
                return Err(io::Error::new(ErrorKind::TimedOut, reason));
            }
            (self.since, self.brought) = (Instant::now(), 0);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many bytes at a time, with pauses.
    struct Slow(usize);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(10));
            Ok(self.0.min(buffer.len()))
        }
    }

    #[test]
    fn a_trickle_is_an_error_and_a_slow_stream_is_not() {
        let window = Duration::from_millis(50);
        let mut buffer = [0; 4096];
        let mut trickle = Steady::new(Slow(1), window);
        let error = (0..100).find_map(|_| trickle.read(&mut buffer).err()).unwrap();
        assert!(error.to_string().contains("bytes came in"), "{error}");
        let mut slow = Steady::new(Slow(4096), window);
        (0..30).for_each(|_| assert_eq!(slow.read(&mut buffer).unwrap(), 4096));
    }
}
