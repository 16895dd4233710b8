//! Random views of a picture: torchvision's `RandomResizedCrop` (bicubic) and `RandomHorizontalFlip`.

use crate::data::{PythonRandom, Rgb, flip_horizontal, resize_crop};

/// How often a box is drawn before the centre is taken instead.
const TRIES: usize = 10;

/// What random views of a picture are like.
///
/// The distributions are torchvision's; the draws are not PyTorch's, so views agree in kind, not one by one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augment {
    /// Least and greatest area of the box, as a share of the picture's.
    pub scale: (f64, f64),
    /// Least and greatest width / height of the box, drawn uniformly in its logarithm.
    pub ratio: (f64, f64),
    /// Probability of a mirrored view.
    pub flip: f64,
}

/// A box in a picture, in pixels from the top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Augment {
    /// Tip-Adapter's views, of which cache keys are averages: at least half of the picture.
    pub const TIP: Self = Self { scale: (0.5, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), flip: 0.5 };
    /// CoOp's and PiNI's views for training: down to a twelfth of the picture.
    pub const PINI: Self = Self { scale: (0.08, 1.0), ..Self::TIP };
    /// DINO's global crops: at least a quarter of the picture.
    pub const GLOBAL: Self = Self { scale: (0.25, 1.0), ..Self::TIP };
    /// DINO's local crops: at most a quarter.
    pub const LOCAL: Self = Self { scale: (0.05, 0.25), ..Self::TIP };

    /// A random view of `src`, `size` × `size` (taken as at least 1): a random box, squashed, perhaps mirrored.
    ///
    /// For views that depend on nothing but the picture and the view's number, give each its own generator, seeded by
    /// [`stream_seed`]:
    ///
    /// ```
    /// use tipi::low_level::data::{Augment, PythonRandom, Rgb, stream_seed};
    /// let picture = Rgb::new(40, 30, vec![128; 40 * 30 * 3])?;
    /// let (seed, picture_index, view_index) = (1, 0, 3);
    /// let mut rng = PythonRandom::new(stream_seed(seed, picture_index, view_index));
    /// assert_eq!(Augment::TIP.view(&picture, 32, &mut rng).width, 32);
    /// # Ok::<(), tipi::Error>(())
    /// ```
    pub fn view(&self, src: &Rgb, size: usize, rng: &mut PythonRandom) -> Rgb {
        let window = self.window(src.width, src.height, rng);
        let view = resize_crop(src, window.x, window.y, window.width, window.height, size);
        if rng.random() < self.flip { flip_horizontal(&view) } else { view }
    }

    /// Draws a box in a picture of `width` × `height`; after ten that do not fit, the largest centred one whose ratio
    /// is allowed.
    fn window(&self, width: usize, height: usize, rng: &mut PythonRandom) -> Window {
        let (lowest, highest) = self.ratio;
        let area = width as f64 * height as f64;
        // Python's round, which torchvision uses, takes halves to the even number. The cast saturates: a negative
        // number or NaN becomes 0, which the test below refuses.
        let round = |side: f64| side.round_ties_even() as usize;
        for _ in 0..TRIES {
            let target = area * rng.uniform(self.scale.0, self.scale.1);
            let ratio = rng.uniform(lowest.ln(), highest.ln()).exp();
            let (w, h) = (round((target * ratio).sqrt()), round((target / ratio).sqrt()));
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let y = rng.randbelow((height - h + 1) as u64) as usize;
                let x = rng.randbelow((width - w + 1) as u64) as usize;
                return Window { x, y, width: w, height: h };
            }
        }
        let ratio = width as f64 / height as f64;
        let (w, h) = if ratio < lowest {
            (width, round(width as f64 / lowest).clamp(1, height))
        } else if ratio > highest {
            (round(height as f64 * highest).clamp(1, width), height)
        } else {
            (width, height)
        };
        Window { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h }
    }
}

/// A seed for the stream of random numbers that belongs to `a` and `b` (say, a picture and a view of it) under `seed`.
///
/// Each of the three is added in turn to what came before and mixed by a step of SplitMix64 (G. Steele, D. Lea and
/// C. Flood, 2014), so that neighbouring numbers give unrelated seeds and exchanging `a` and `b` gives another one.
pub fn stream_seed(seed: u64, a: u64, b: u64) -> u64 {
    [seed, a, b].into_iter().fold(0, |state: u64, part| splitmix64(state.wrapping_add(part)))
}

/// A step of SplitMix64: a bijection under which every bit of the result depends on every bit of `state`.
fn splitmix64(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::data::resize_bicubic;

    fn picture(width: usize, height: usize) -> Rgb {
        let data = (0..width * height * 3).map(|i| ((i * 2_654_435_761) >> 9) as u8).collect();
        Rgb::new(width, height, data).unwrap()
    }

    #[test]
    fn boxes_lie_inside_and_have_the_area_and_ratio_asked_for() {
        let (width, height) = (401, 307);
        let mut rng = PythonRandom::new(1);
        let mut shares = Vec::new();
        for _ in 0..2000 {
            let window = Augment::TIP.window(width, height, &mut rng);
            assert!(window.x + window.width <= width && window.y + window.height <= height, "{window:?}");
            let share = (window.width * window.height) as f64 / (width * height) as f64;
            let ratio = window.width as f64 / window.height as f64;
            assert!((0.49..=1.0).contains(&share), "{window:?}: share {share}");
            assert!((0.745..=1.34).contains(&ratio), "{window:?}: ratio {ratio}");
            shares.push(share);
        }
        // Both ends of the scale are reached, and every place.
        assert!(shares.iter().any(|&share| share < 0.52) && shares.iter().any(|&share| share > 0.9));
    }

    #[test]
    fn ratios_are_uniform_in_the_logarithm() {
        let mut rng = PythonRandom::new(2);
        // Of a square picture, with small boxes that always fit, as many are wide as high.
        let augment = Augment { scale: (0.08, 0.1), ..Augment::PINI };
        let wide = (0..4000)
            .filter(|_| {
                let window = augment.window(1000, 1000, &mut rng);
                window.width > window.height
            })
            .count();
        assert!((1850..2150).contains(&wide), "{wide} of 4000");
    }

    #[test]
    fn boxes_move_over_the_whole_picture() {
        let mut rng = PythonRandom::new(3);
        let augment = Augment { scale: (0.25, 0.25), ratio: (1.0, 1.0), flip: 0.0 };
        let places: HashSet<_> = (0..400)
            .map(|_| {
                let window = augment.window(8, 8, &mut rng);
                assert_eq!((window.width, window.height), (4, 4));
                (window.x, window.y)
            })
            .collect();
        assert_eq!(places.len(), 25);
    }

    #[test]
    fn a_picture_too_long_gives_its_centre() {
        let mut rng = PythonRandom::new(4);
        let whole = Augment { scale: (1.0, 1.0), ..Augment::TIP };
        // 12 is 4/3 of 9, 3/4 of 16.
        assert_eq!(whole.window(100, 9, &mut rng), Window { x: 44, y: 0, width: 12, height: 9 });
        assert_eq!(whole.window(12, 101, &mut rng), Window { x: 0, y: 42, width: 12, height: 16 });
        assert_eq!(whole.window(1, 5, &mut rng), Window { x: 0, y: 2, width: 1, height: 1 });
        // Areas beyond the picture never fit; its own ratio is allowed.
        let beyond = Augment { scale: (4.0, 4.0), ..Augment::TIP };
        assert_eq!(beyond.window(11, 10, &mut rng), Window { x: 0, y: 0, width: 11, height: 10 });
    }

    #[test]
    fn settings_without_sense_still_give_a_box_inside() {
        let mut rng = PythonRandom::new(5);
        for augment in [
            Augment { scale: (f64::NAN, 1.0), ..Augment::TIP },
            Augment { scale: (-1.0, -0.5), ..Augment::TIP },
            Augment { ratio: (0.0, f64::INFINITY), ..Augment::TIP },
            Augment { ratio: (f64::NAN, -1.0), ..Augment::TIP },
        ] {
            let window = augment.window(7, 3, &mut rng);
            assert!(window.x + window.width <= 7 && window.y + window.height <= 3, "{augment:?}: {window:?}");
            assert!(window.width >= 1 && window.height >= 1, "{augment:?}: {window:?}");
        }
    }

    #[test]
    fn flips_come_as_often_as_asked() {
        let src = picture(9, 5);
        let mirrored = resize_bicubic(&flip_horizontal(&src), 9, 9);
        let count = |flip: f64| {
            // The whole picture always, so that only the flip is left to chance.
            let augment = Augment { scale: (4.0, 4.0), ratio: (0.1, 10.0), flip };
            let mut rng = PythonRandom::new(6);
            (0..400).filter(|_| augment.view(&src, 9, &mut rng) == mirrored).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 400));
        assert!((160..240).contains(&count(0.5)), "{}", count(0.5));
    }

    #[test]
    fn a_view_is_a_function_of_its_seed() {
        let src = picture(37, 23);
        let view = |a, b| Augment::PINI.view(&src, 16, &mut PythonRandom::new(stream_seed(1, a, b)));
        assert_eq!(view(3, 4), view(3, 4));
        assert_ne!(view(3, 4), view(3, 5));
        assert_ne!(view(3, 4), view(4, 3));
        assert_eq!((view(0, 0).width, view(0, 0).height), (16, 16));
    }

    #[test]
    fn one_pixel_is_enough() {
        let src = Rgb::new(1, 1, vec![1, 2, 3]).unwrap();
        let view = Augment::PINI.view(&src, 2, &mut PythonRandom::new(0));
        assert_eq!(view.data, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn seeds_of_streams_do_not_meet() {
        // The reference generator's first numbers from the seed 0.
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
        let seeds: HashSet<_> =
            (0..3).flat_map(|s| (0..50).flat_map(move |a| (0..50).map(move |b| stream_seed(s, a, b)))).collect();
        assert_eq!(seeds.len(), 3 * 50 * 50);
    }
}
