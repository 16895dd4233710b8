//! What watches long work: progress bars, and the wish to stop.

use crate::Result;

/// What watches long work. Work is a row of stretches, one at a time.
pub trait Watch {
    /// A stretch of work begins, of so many parts.
    fn begin(&mut self, what: &str, total: usize);
    /// So many of its parts are done. An error stops the work in good order.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::Error::Stopped) to stop.
    fn at(&mut self, done: usize) -> Result<()>;
    /// What may stand beside the progress: an epoch, a loss.
    fn show(&mut self, _text: &str) {}
    /// The stretch is over.
    fn end(&mut self);
    /// Something that people should know.
    fn note(&mut self, text: &str);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn begin(&mut self, _what: &str, _total: usize) {}

    fn at(&mut self, _done: usize) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) {}

    fn note(&mut self, _text: &str) {}
}
