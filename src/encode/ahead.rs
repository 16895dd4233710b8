//! Pictures decoded while the tower runs: the one loop of all that goes from pictures to features.

use rayon::prelude::*;

use crate::Result;
use crate::platform::THREADS;

/// Makes something of every picture, on all cores, and gives it to `take` in the order of the pictures, with them, `at_once` at a
/// time; the next ones are made while `take` has the last. Ends at the first error of `take`, which is also the one to say what
/// becomes of pictures that nothing could be made of.
///
/// # Errors
/// What `take` gives.
pub(crate) fn decoding_ahead<P: Sync, T: Send>(
    pictures: &[P],
    at_once: usize,
    make: impl Fn(&P) -> Result<T> + Send + Sync,
    mut take: impl FnMut(&[P], Vec<Result<T>>) -> Result<()>,
) -> Result<()> {
    let made = |chunk: &[P]| chunk.par_iter().map(&make).collect::<Vec<_>>();
    // What is taken at once is not worth a thread.
    match pictures.len() {
        0 => Ok(()),
        all if all <= at_once => take(pictures, made(pictures)),
        _ => {
            let chunks = pictures.chunks(at_once.max(1)).map(|chunk| (chunk, made(chunk)));
            ahead(chunks, |(chunk, made)| take(chunk, made))
        }
    }
}

/// Takes the items of `source` one after the other, the next one being made on another thread meanwhile: pictures are
/// decoded while the tower runs. At most three items exist at a time. Ends at the first error of `take`.
///
/// # Errors
/// What `take` returns.
fn ahead<T: Send, E>(
    source: impl Iterator<Item = T> + Send,
    mut take: impl FnMut(T) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    if !THREADS {
        return { source }.try_for_each(take);
    }
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        scope.spawn(move || {
            for item in source {
                // The receiver is gone after an error: nothing more is wanted.
                if sender.send(item).is_err() {
                    return;
                }
            }
        });
        receiver.into_iter().try_for_each(&mut take)
    })
}

#[cfg(test)]
mod tests {
    use super::{ahead, decoding_ahead};
    use crate::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn items_come_in_order_and_no_further_ahead_than_agreed() {
        let made = AtomicUsize::new(0);
        let mut taken = 0;
        let source = (0..50).inspect(|_| {
            made.fetch_add(1, Ordering::SeqCst);
        });
        ahead(source, |i| {
            assert_eq!(i, taken);
            taken += 1;
            let ahead = made.load(Ordering::SeqCst) - taken;
            assert!(ahead <= 2, "{ahead} items wait");
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(taken, 50);
    }

    #[test]
    fn the_first_error_ends_it() {
        let made = AtomicUsize::new(0);
        let source = (0..1000).inspect(|_| {
            made.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(ahead(source, |i| if i == 3 { Err("three") } else { Ok(()) }), Err("three"));
        assert!(made.load(Ordering::SeqCst) <= 7);
    }

    #[test]
    fn what_is_made_comes_with_its_picture_and_errors_in_their_places() {
        let pictures: Vec<usize> = (0..23).collect();
        for at_once in [0, 1, 4, 22, 23, 100] {
            let (mut taken, mut most) = (Vec::new(), 0);
            let make = |i: &usize| if i % 7 == 3 { Err(Error::Invalid(i.to_string())) } else { Ok(10 * i) };
            decoding_ahead(&pictures, at_once, make, |chunk, made| {
                assert_eq!(chunk.len(), made.len());
                most = most.max(chunk.len());
                taken.extend(chunk.iter().copied().zip(made));
                Ok(())
            })
            .unwrap();
            assert!(most <= at_once.max(1) && taken.len() == 23);
            for (at, (picture, made)) in taken.into_iter().enumerate() {
                assert_eq!(picture, at);
                match made {
                    Ok(value) => assert!(value == 10 * at && at % 7 != 3),
                    Err(error) => assert!(at % 7 == 3 && error.to_string() == at.to_string()),
                }
            }
            let mut calls = 0;
            let ended = decoding_ahead(
                &pictures,
                at_once,
                |_| Ok(()),
                |_, _| {
                    calls += 1;
                    Err(Error::Stopped)
                },
            );
            assert!(matches!(ended, Err(Error::Stopped)) && calls == 1);
        }
        decoding_ahead(&[] as &[usize], 4, |_| Ok(()), |_, _| Err(Error::Stopped)).unwrap();
    }
}
