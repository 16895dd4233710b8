//! Parts of tensors.

use tipi::low_level::gpu::Recorder;
use tipi::low_level::kernels::slices;

use crate::twins::Random;
use crate::{bits, gpu, invalid, run, run1, up};

#[test]
fn parts_are_taken_and_put() {
    let mut random = Random::new(71);
    for (n, part) in [(1, 0..1), (67, 5..66), (1000, 64..128)] {
        let x = random.vector(n);
        let x_g = up(&x, &[n]);
        let taken = run1(|rec| slices::take(rec, &x_g, part.clone(), &[part.len(), 1]));
        assert_eq!(bits(&taken), bits(&x[part.clone()]), "{part:?} of {n}");
        let [put] = run(|rec| {
            let y = rec.temp("y", &[2 * n])?;
            slices::put(rec, &x_g, &y, n)?;
            slices::put(rec, &x_g, &y, 0)?;
            Ok([y])
        });
        assert_eq!(bits(&put), bits(&[&x[..], &x[..]].concat()));
        let mut rec = Recorder::new(gpu());
        invalid("past the end", slices::take(&mut rec, &x_g, 0..n + 1, &[n + 1]));
        invalid("another length", slices::take(&mut rec, &x_g, 0..n, &[n + 1]));
        invalid("no room", slices::put(&mut rec, &x_g, &x_g.clone(), 1));
    }
}
