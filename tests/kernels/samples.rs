//! Pixels from pictures of 8 bits a sample.

use tipi::low_level::data::{Normalize, Rgb, to_pixels};
use tipi::low_level::gpu::DType;
use tipi::low_level::kernels::samples;

use crate::twins::Random;
use crate::{gpu, plan_on};

#[test]
fn samples_become_the_hosts_pixels_to_the_bit() {
    let mut random = Random::new(31);
    // Numbers of samples that fill words and that do not; every value of a sample in every channel.
    for (batch, size) in [(1, 1), (3, 3), (2, 5), (1, 16), (5, 17)] {
        let area = size * size;
        let pictures: Vec<u8> = (0..batch * 3 * area).map(|i| (i + random.below(7)) as u8).collect();
        let words: Vec<u32> =
            pictures.chunks(4).map(|c| (0..4).map(|i| u32::from(*c.get(i).unwrap_or(&0)) << (8 * i)).sum()).collect();
        let on_host = |normalize: &Normalize| -> Vec<f32> {
            let one = |data: &[u8]| to_pixels(&Rgb::new(size, size, data.to_vec()).unwrap(), normalize);
            pictures.chunks(3 * area).flat_map(one).collect()
        };
        let pixels = gpu().empty("pixels", &[batch, 3, size, size], DType::F32).unwrap();
        let words = gpu().upload("samples", &words, &[samples::words(batch, size)]).unwrap();
        let table = gpu().upload("table", &Normalize::CLIP.table().concat(), &[3, 256]).unwrap();
        let (plan, ()) = plan_on(gpu(), |rec| samples::pixels(rec, &words, &table, &pixels));
        plan.run().unwrap();
        let got: Vec<f32> = gpu().read(&pixels).unwrap();
        assert_eq!(got, on_host(&Normalize::CLIP), "{batch} of {size}×{size}");
        assert_ne!(got, on_host(&Normalize::IMAGENET), "other means passed");
        // Channels side by side instead of one after the other.
        if size > 1 {
            let mixed: Vec<f32> =
                (pictures.iter().enumerate()).map(|(i, v)| Normalize::CLIP.table()[i % 3][usize::from(*v)]).collect();
            assert_ne!(got, mixed, "mixed channels passed");
        }
    }
    let (small, table) = (gpu().zeros("pixels", &[1, 3, 2, 2]).unwrap(), gpu().zeros("table", &[3, 256]).unwrap());
    let words = gpu().upload("samples", &[0u32; 2], &[2]).unwrap();
    let mut rec = tipi::low_level::gpu::Recorder::new(gpu());
    assert!(samples::pixels(&mut rec, &words, &table, &small).is_err(), "too few samples passed");
}
