//! Resampling that equals Pillow's bit for bit, the crops of torchvision and open_clip, and normalisation.
//!
//! A CLIP checkpoint was trained and evaluated behind `PIL.Image.resize(…, BICUBIC)`, a few behind `BILINEAR`; a
//! resize that is merely close moves logits enough to flip near ties. Pillow's method, from its
//! `src/libImaging/Resample.c`: the filter's kernel (see [`Filter`]), stretched by the scale when shrinking
//! (antialiasing); weights normalised in f64 and rounded to 22 fractional bits; one pass along the rows, then one down
//! the columns, each rounded and clipped to u8; a pass whose size does not change is skipped.
//!
//! This is Pillow up to 12. Pillow 13 exchanges the passes for some pictures whose height shrinks (much more than the
//! width does, or from about twice the width), which moves samples there by a few levels; published numbers rest on
//! the older order.

use std::borrow::Cow;
use std::ops::Range;

use crate::{Error, Result};

/// Channels of every picture here.
const CHANNELS: usize = 3;
/// Fractional bits of a weight: 32, less 8 for the sample and 2 for sums below 0 and above 1.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Half a unit of the result: added before the shift so that it rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// An 8-bit RGB picture: rows from the top, pixels from the left, three bytes each.
///
/// Build one with [`Rgb::new`], which checks the length. Where the fields were later made to contradict `data`, functions
/// take of it as many whole rows as there are, or one black pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels per row, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// Samples `[height, width, 3]`.
    pub data: Vec<u8>,
}

impl Rgb {
    /// A picture from its samples `[height, width, 3]`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a side is 0 or `data` is not `height · width · 3` long.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self> {
        let expected = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(CHANNELS));
        if width == 0 || height == 0 || expected != Some(data.len()) {
            return Err(Error::invalid(format!(
                "an RGB picture of {width}x{height} cannot be made of {} bytes: both sides must be at least 1 and the \
                 length width x height x 3",
                data.len()
            )));
        }
        Ok(Self { width, height, data })
    }

    /// The picture itself if its fields fit each other. Else, as anybody can write them, what the data hold of it: as many
    /// whole rows as there are, at least one black pixel.
    fn whole(&self) -> Cow<'_, Self> {
        let pixels = self.width.checked_mul(self.height).and_then(|pixels| pixels.checked_mul(CHANNELS));
        if self.width > 0 && self.height > 0 && pixels == Some(self.data.len()) {
            return Cow::Borrowed(self);
        }
        let there = self.data.len() / CHANNELS;
        let width = self.width.clamp(1, there.max(1));
        let height = self.height.clamp(1, (there / width).max(1));
        let mut data = self.data.clone();
        data.resize(width * height * CHANNELS, 0);
        Cow::Owned(Self { width, height, data })
    }

    /// The samples of columns `x` of row `y`.
    fn row(&self, y: usize, x: &Range<usize>) -> &[u8] {
        let row = y * self.width;
        &self.data[(row + x.start) * CHANNELS..(row + x.end) * CHANNELS]
    }

    /// A copy of columns `x` and rows `y`.
    fn window(&self, x: &Range<usize>, y: &Range<usize>) -> Self {
        let mut data = Vec::with_capacity(x.len() * y.len() * CHANNELS);
        for row in y.clone() {
            data.extend_from_slice(self.row(row, x));
        }
        Self { width: x.len(), height: y.len(), data }
    }
}

/// How samples between the source's pixels are made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Filter {
    /// The cubic kernel with a = −0.5 over 4 pixels: CLIP's own, and nearly every checkpoint's.
    #[default]
    Bicubic,
    /// The triangle over 2 pixels.
    Bilinear,
}

impl Filter {
    /// The kernel is zero from here on, in units of source (or, when shrinking, target) pixels.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    /// The kernel at `x`.
    fn kernel(self, x: f64) -> f64 {
        match self {
            Self::Bicubic => cubic(x),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
        }
    }
}

/// The cubic kernel with a = −0.5 (Catmull-Rom), term for term as Pillow evaluates it.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// For each target coordinate of a range: which source coordinates it reads, and with what weights.
struct Taps {
    /// Source coordinates read, per target coordinate; starts and ends never decrease.
    reads: Vec<Range<usize>>,
    /// The weights of all reads, one after the other, with [`PRECISION_BITS`] fractional bits.
    weights: Vec<i32>,
}

impl Taps {
    /// Taps for the coordinates `wanted` when `input` samples become `output`.
    fn new(filter: Filter, input: usize, output: usize, wanted: &Range<usize>) -> Self {
        let scale = input as f64 / output as f64;
        // Shrinking widens the kernel over all the source that a target pixel stands for.
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let inverse = 1.0 / stretch;
        let mut reads = Vec::with_capacity(wanted.len());
        let mut weights = Vec::new();
        let mut kernel = Vec::new();
        for target in wanted.clone() {
            let center = (target as f64 + 0.5) * scale;
            // Float to integer casts truncate and saturate, so a negative start becomes 0.
            let first = (center - support + 0.5) as usize;
            let last = ((center + support + 0.5) as usize).min(input);
            kernel.clear();
            kernel.extend((first..last).map(|source| filter.kernel((source as f64 - center + 0.5) * inverse)));
            let sum: f64 = kernel.iter().sum();
            weights.extend(kernel.iter().map(|&weight| {
                let normalised = if sum == 0.0 { weight } else { weight / sum };
                let scaled = normalised * f64::from(1u32 << PRECISION_BITS);
                (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            }));
            reads.push(first..last);
        }
        Self { reads, weights }
    }

    /// The source coordinates that any target reads.
    fn span(&self) -> Range<usize> {
        let start = self.reads.first().map_or(0, |reads| reads.start);
        let end = self.reads.last().map_or(0, |reads| reads.end);
        start..end
    }

    /// Each target's reads and weights, in order.
    fn iter(&self) -> impl Iterator<Item = (&Range<usize>, &[i32])> {
        let mut rest = self.weights.as_slice();
        self.reads.iter().map(move |reads| {
            let (weights, tail) = rest.split_at(reads.len());
            rest = tail;
            (reads, weights)
        })
    }
}

/// A sum of samples times weights, back to a sample.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resamples the columns of rows `y` of `src`: a picture as wide as `taps` has targets.
fn horizontal(src: &Rgb, taps: &Taps, y: &Range<usize>) -> Rgb {
    let width = taps.reads.len();
    let mut data = vec![0; width * y.len() * CHANNELS];
    for (row, out) in y.clone().zip(data.chunks_exact_mut(width * CHANNELS)) {
        let samples = src.row(row, &(0..src.width));
        for ((reads, weights), pixel) in taps.iter().zip(out.chunks_exact_mut(CHANNELS)) {
            let mut sum = [HALF; CHANNELS];
            let read = samples[reads.start * CHANNELS..reads.end * CHANNELS].chunks_exact(CHANNELS);
            for (source, &weight) in read.zip(weights) {
                for (sum, &sample) in sum.iter_mut().zip(source) {
                    *sum += i32::from(sample) * weight;
                }
            }
            for (sample, sum) in pixel.iter_mut().zip(sum) {
                *sample = clip(sum);
            }
        }
    }
    Rgb { width, height: y.len(), data }
}

/// Resamples the rows of `src`, whose first row is row `top` of what `taps` counts from: a picture as high as `taps`
/// has targets.
fn vertical(src: &Rgb, taps: &Taps, top: usize) -> Rgb {
    let columns = 0..src.width;
    let mut data = Vec::with_capacity(src.width * taps.reads.len() * CHANNELS);
    let mut sums = vec![0; src.width * CHANNELS];
    for (reads, weights) in taps.iter() {
        sums.fill(HALF);
        // Row by row rather than pixel by pixel: the same sums, but over contiguous memory.
        for (row, &weight) in reads.clone().zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(src.row(row - top, &columns)) {
                *sum += i32::from(sample) * weight;
            }
        }
        data.extend(sums.iter().map(|&sum| clip(sum)));
    }
    Rgb { width: src.width, height: taps.reads.len(), data }
}

/// Columns `x` and rows `y` of `src` resized to `width` × `height`, without computing the rest.
fn resample(src: &Rgb, width: usize, height: usize, filter: Filter, x: &Range<usize>, y: &Range<usize>) -> Rgb {
    let rows = (height != src.height).then(|| Taps::new(filter, src.height, height, y));
    let read = rows.as_ref().map_or(y.clone(), Taps::span);
    let narrowed = if width == src.width {
        src.window(x, &read)
    } else {
        horizontal(src, &Taps::new(filter, src.width, width, x), &read)
    };
    match rows {
        Some(taps) => vertical(&narrowed, &taps, read.start),
        None => narrowed,
    }
}

/// The longest side of what is cut out or squared: networks take some hundreds of pixels.
const LONGEST: usize = 1 << 14;

/// The side of a square that was asked for, as it is made.
fn side_of(size: usize) -> usize {
    size.clamp(1, LONGEST)
}

/// Resizes to `width` × `height` (each taken as at least 1): byte for byte what `Image.resize((width, height), filter)`
/// gives in Pillow up to 12.
pub fn resize(src: &Rgb, width: usize, height: usize, filter: Filter) -> Rgb {
    let src = &*src.whole();
    let (width, height) = (width.max(1), height.max(1));
    if (width, height) == (src.width, src.height) {
        return src.clone();
    }
    resample(src, width, height, filter, &(0..width), &(0..height))
}

/// [`resize`] with [`Filter::Bicubic`].
pub fn resize_bicubic(src: &Rgb, width: usize, height: usize) -> Rgb {
    resize(src, width, height, Filter::Bicubic)
}

/// open_clip's resize mode `longest`: the longer side becomes `size` (taken as 1 to 16384), the shorter one is rounded
/// (halves to the even number), and the picture is put in the middle of a square of `fill` in all channels, the odd
/// row or column at the end.
///
/// Where the shorter side would round to 0, which is an error in open_clip, it is taken as 1.
pub fn resize_longest_pad(src: &Rgb, size: usize, fill: u8, filter: Filter) -> Rgb {
    let (src, size) = (&*src.whole(), side_of(size));
    // In open_clip's steps, because the quotient of the quotients decides where halves go.
    let ratio = (src.height as f64 / size as f64).max(src.width as f64 / size as f64);
    let side = |side: usize| ((side as f64 / ratio).round_ties_even() as usize).clamp(1, size);
    let inner = resize(src, side(src.width), side(src.height), filter);
    let (left, top) = ((size - inner.width) / 2, (size - inner.height) / 2);
    let mut data = vec![fill; size * size * CHANNELS];
    for (y, out) in data.chunks_exact_mut(size * CHANNELS).skip(top).take(inner.height).enumerate() {
        out[left * CHANNELS..(left + inner.width) * CHANNELS].copy_from_slice(inner.row(y, &(0..inner.width)));
    }
    Rgb { width: size, height: size, data }
}

/// The width and height after the shorter side has become `size`; the longer is truncated, as in torchvision.
fn shortest_edge(src: &Rgb, size: usize) -> (usize, usize) {
    let size = size.max(1);
    if src.width <= src.height {
        (size, size.saturating_mul(src.height) / src.width)
    } else {
        (size.saturating_mul(src.width) / src.height, size)
    }
}

#[doc(hidden)]
/// Resizes so that the shorter side is `size` (taken as 1 to 16384); the longer becomes ⌊size · long / short⌋, as
/// torchvision's `Resize(size)` has it.
///
/// A very long and thin picture grows accordingly: 1×262144 to 224 takes 39 GB. [`resize_center_crop`] computes only
/// what the crop keeps.
pub fn resize_shortest_edge(src: &Rgb, size: usize) -> Rgb {
    let src = &*src.whole();
    let (width, height) = shortest_edge(src, side_of(size));
    resize_bicubic(src, width, height)
}

/// Where a centred window of `size` starts on a side of `side ≥ size`: half the margin, halves rounded to the even
/// number, because torchvision uses Python's `round`.
fn center_offset(side: usize, size: usize) -> usize {
    let margin = side - size;
    let floor = margin / 2;
    floor + (margin & floor & 1)
}

/// The centred `size` × `size` window (`size` is taken as 1 to 16384), as torchvision's `CenterCrop(size)`.
///
/// Offsets are half the margin, rounded half to even. Where the picture is smaller than the window it is padded with
/// zeros (black) on both sides, the odd row or column at the end.
pub fn center_crop(src: &Rgb, size: usize) -> Rgb {
    let (src, size) = (&*src.whole(), side_of(size));
    /// Source range kept and target offset on one side.
    fn axis(side: usize, size: usize) -> (Range<usize>, usize) {
        if side >= size {
            let start = center_offset(side, size);
            (start..start + size, 0)
        } else {
            (0..side, (size - side) / 2)
        }
    }
    let (columns, left) = axis(src.width, size);
    let (rows, top) = axis(src.height, size);
    if columns.len() == size && rows.len() == size {
        return src.window(&columns, &rows);
    }
    let mut data = vec![0; size * size * CHANNELS];
    for (y, out) in rows.zip(data.chunks_exact_mut(size * CHANNELS).skip(top)) {
        out[left * CHANNELS..(left + columns.len()) * CHANNELS].copy_from_slice(src.row(y, &columns));
    }
    Rgb { width: size, height: size, data }
}

#[doc(hidden)]
/// CLIP's preparation: [`resize_shortest_edge`] then [`center_crop`], both to `size` (taken as 1 to 16384).
///
/// The same bytes as the two in sequence, but only the pixels that the crop keeps are computed, so time and memory do
/// not grow with the picture's aspect.
pub fn resize_center_crop(src: &Rgb, size: usize) -> Rgb {
    resize_center_crop_with(src, size, size, Filter::Bicubic)
}

/// [`resize_center_crop`] with any filter, the shorter side becoming `edge` before `size` × `size` are cut out.
pub fn resize_center_crop_with(src: &Rgb, edge: usize, size: usize, filter: Filter) -> Rgb {
    let (src, size) = (&*src.whole(), side_of(size));
    let (width, height) = shortest_edge(src, side_of(edge));
    let kept = |side: usize| {
        let start = if side > size { center_offset(side, size) } else { 0 };
        start..start + side.min(size)
    };
    let cut = resample(src, width, height, filter, &kept(width), &kept(height));
    // The edge may be smaller than what is cut out, which is then filled up.
    if width.min(height) < size { center_crop(&cut, size) } else { cut }
}

/// Cuts out the `w` × `h` box whose top left corner is (`x`, `y`) and squashes it to `size` × `size`, as
/// torchvision's `RandomResizedCrop` does with the box it drew: what lies outside the box has no influence.
///
/// The box is moved and cut to lie inside the picture and to hold at least one pixel; `size` is taken as 1 to 16384.
pub fn resize_crop(src: &Rgb, x: usize, y: usize, w: usize, h: usize, size: usize) -> Rgb {
    let (src, size) = (&*src.whole(), side_of(size));
    let (x, y) = (x.min(src.width - 1), y.min(src.height - 1));
    let (w, h) = (w.clamp(1, src.width - x), h.clamp(1, src.height - y));
    resize_bicubic(&src.window(&(x..x + w), &(y..y + h)), size, size)
}

/// The mirror image, left and right exchanged.
pub fn flip_horizontal(src: &Rgb) -> Rgb {
    let src = &*src.whole();
    let mut data = Vec::with_capacity(src.data.len());
    for row in src.data.chunks_exact(src.width * CHANNELS) {
        for pixel in row.chunks_exact(CHANNELS).rev() {
            data.extend_from_slice(pixel);
        }
    }
    Rgb { width: src.width, height: src.height, data }
}

/// Mean and standard deviation per channel (red, green, blue), in units where white is 1. A checkpoint's preprocessor
/// config says which it was trained with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalize {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by; must not be 0.
    pub std: [f32; 3],
}

impl Normalize {
    /// OpenAI's CLIP and most open_clip models.
    pub const CLIP: Self =
        Self { mean: [0.481_454_66, 0.457_827_5, 0.408_210_73], std: [0.268_629_54, 0.261_302_6, 0.275_777_1] };
    #[doc(hidden)]
    /// ImageNet's statistics.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    /// To −1…1.
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };

    /// What each value of a sample becomes, by channel: (v/255 − mean)/std, each step rounded to f32.
    pub fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std)
        })
    }
}

/// The picture as numbers `[3, height, width]` (one plane per channel): (v/255 − mean)/std, each step rounded to f32
/// as torchvision's `ToTensor` and `Normalize` do.
pub fn to_pixels(src: &Rgb, normalize: &Normalize) -> Vec<f32> {
    let mut pixels = Vec::with_capacity(src.data.len());
    for (channel, table) in normalize.table().iter().enumerate() {
        pixels.extend(src.data.iter().skip(channel).step_by(CHANNELS).map(|&sample| table[usize::from(sample)]));
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture without structure, from a linear congruential generator.
    fn pattern(width: usize, height: usize, seed: u32) -> Rgb {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let data = std::iter::repeat_with(next).take(width * height * 3).collect();
        Rgb::new(width, height, data).unwrap()
    }

    /// FNV-1a, so that expectations for large pictures fit on a line.
    fn fnv(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    fn grey(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Rgb {
        let data = (0..height * width).flat_map(|i| [value(i % width, i / width); 3]).collect();
        Rgb::new(width, height, data).unwrap()
    }

    #[test]
    fn a_crop_of_another_size_than_the_edge_is_cut_from_the_resized_picture() {
        for (width, height) in [(37, 23), (23, 37), (9, 50), (20, 20)] {
            let src = grey(width, height, |x, y| (x * 7 + y * 13) as u8);
            for filter in [Filter::Bicubic, Filter::Bilinear] {
                // A crop within, of, and beyond the edge, where it is filled up with black.
                for (edge, size) in [(16, 11), (16, 16), (11, 16)] {
                    let (w, h) = shortest_edge(&src, edge);
                    let want = center_crop(&resize(&src, w, h, filter), size);
                    assert_eq!(
                        resize_center_crop_with(&src, edge, size, filter),
                        want,
                        "{width}×{height} {edge} {size}"
                    );
                }
            }
        }
    }

    #[test]
    fn new_checks_the_length() {
        assert!(Rgb::new(2, 3, vec![0; 18]).is_ok());
        for (width, height, length) in [(2, 3, 17), (2, 3, 19), (0, 3, 0), (3, 0, 0), (usize::MAX, 2, 6)] {
            let error = Rgb::new(width, height, vec![0; length]).unwrap_err().to_string();
            assert!(error.contains(&format!("{width}x{height}")), "{error}");
        }
    }

    #[test]
    fn small_pictures_equal_pillow() {
        #[rustfmt::skip]
        let src = Rgb::new(5, 3, vec![
            0, 50, 255, 255, 60, 0, 0, 70, 255, 255, 80, 0, 10, 90, 3,
            9, 8, 7, 6, 5, 4, 3, 2, 1, 200, 210, 220, 230, 240, 250,
            17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255,
        ]).unwrap();
        // Image.resize((3, 2), BICUBIC) and ((6, 4), BICUBIC) of Pillow 11.3.
        #[rustfmt::skip]
        let down = [68, 33, 94, 94, 58, 102, 152, 138, 87, 19, 32, 39, 90, 103, 112, 215, 231, 249];
        #[rustfmt::skip]
        let up = [
            0, 52, 255, 227, 60, 41, 101, 69, 167, 96, 74, 176, 218, 75, 0, 0, 82, 0,
            5, 22, 97, 82, 21, 12, 29, 17, 50, 81, 74, 112, 222, 178, 153, 146, 185, 158,
            12, 14, 5, 10, 26, 33, 30, 38, 38, 101, 111, 113, 207, 231, 250, 244, 251, 255,
            15, 33, 51, 55, 73, 91, 103, 121, 139, 143, 161, 179, 183, 200, 218, 223, 240, 255,
        ];
        assert_eq!(resize_bicubic(&src, 3, 2).data, down);
        assert_eq!(resize_bicubic(&src, 6, 4).data, up);
    }

    #[test]
    fn odd_sizes_equal_pillow() {
        // Hashes of Pillow 11.3's results on the same patterns. Pillow 13 begins with the columns and differs where
        // the height shrinks much more: (3, 200) to (17, 19) and (37, 41) to (224, 1).
        let cases = [
            ((1, 1), (5, 3), 0x929e_83b3_0f58_4778),
            ((7, 5), (7, 5), 0x1f08_8261_f6e8_cdb3),
            ((13, 9), (5, 9), 0xe62c_8b9c_248f_2cef),
            ((13, 9), (13, 4), 0x2098_bfba_376c_c800),
            ((13, 9), (29, 31), 0x0a74_b25d_22fe_5448),
            ((101, 67), (32, 21), 0xfcef_4f4b_b4c0_9bb8),
            ((67, 101), (7, 200), 0x71b2_e769_0c8a_a082),
            ((200, 3), (1, 1), 0x23ae_0d1a_d9b4_e10e),
            ((3, 200), (17, 19), 0x9815_c80e_2007_871a),
            ((255, 255), (224, 224), 0x2d04_fb1e_3525_abc6),
            ((37, 41), (224, 1), 0x0543_7425_46ec_2a16),
            ((640, 2), (33, 77), 0xce2d_e59b_fceb_ca2e),
        ];
        for (seed, (from, to, hash)) in (1..).zip(cases) {
            let out = resize_bicubic(&pattern(from.0, from.1, seed), to.0, to.1);
            assert_eq!((out.width, out.height, out.data.len()), (to.0, to.1, to.0 * to.1 * 3));
            assert_eq!(fnv(&out.data), hash, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn the_shorter_side_becomes_the_size_and_the_longer_is_truncated() {
        for ((width, height), expected) in
            [((50, 37), (43, 32)), ((37, 50), (32, 43)), ((32, 32), (32, 32)), ((20, 45), (32, 72)), ((1, 1), (32, 32))]
        {
            let out = resize_shortest_edge(&pattern(width, height, 1), 32);
            assert_eq!((out.width, out.height), expected, "{width}x{height}");
        }
    }

    #[test]
    fn crop_offsets_round_half_to_even() {
        // Margins 1, 3, 5, 7: halves 0.5, 1.5, 2.5, 3.5 become 0, 2, 2, 4; whole numbers stay.
        for (side, offset) in [(4, 0), (5, 0), (6, 1), (7, 2), (8, 2), (9, 2), (10, 3), (11, 4)] {
            let out = center_crop(&grey(side, side, |x, y| (16 * y + x) as u8), 4);
            assert_eq!(usize::from(out.data[0]), 17 * offset, "{side}");
            assert_eq!(usize::from(out.data[47]), 17 * (offset + 3), "{side}");
        }
    }

    #[test]
    fn a_crop_larger_than_the_picture_pads_with_zeros() {
        let rows = |crop: &Rgb| crop.data.iter().step_by(3).copied().collect::<Vec<_>>();
        // Three columns too few: one at the left, two at the right.
        assert_eq!(rows(&center_crop(&grey(1, 1, |_, _| 9), 4)), [0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // Too narrow but too high: pads columns and cuts rows (offset 2 of margin 3).
        assert_eq!(rows(&center_crop(&grey(1, 5, |_, y| y as u8 + 1), 2)), [3, 0, 4, 0]);
    }

    #[test]
    fn the_crop_is_squashed_and_sees_nothing_outside_its_box() {
        let src = pattern(31, 17, 4);
        let alone = src.window(&(5..16), &(3..10));
        assert_eq!(resize_crop(&src, 5, 3, 11, 7, 8), resize_bicubic(&alone, 8, 8));
        // A box beyond the edges is brought inside.
        assert_eq!(resize_crop(&src, 30, 16, 9, 9, 2), resize_bicubic(&src.window(&(30..31), &(16..17)), 2, 2));
        assert_eq!(resize_crop(&src, 99, 99, 0, 0, 2), resize_bicubic(&src.window(&(30..31), &(16..17)), 2, 2));
    }

    #[test]
    fn a_long_thin_picture_needs_no_more_memory_than_its_crop() {
        // The resized picture would be 64 × 4194304, 805 MB.
        let out = resize_center_crop(&grey(1, 65536, |_, y| (y / 257) as u8), 64);
        assert_eq!((out.width, out.height), (64, 64));
        assert!(out.data.iter().all(|&v| v == 127 || v == 128), "not the middle: {:?}", &out.data[..3]);
    }

    #[test]
    fn flip_mirrors_pixels_not_bytes() {
        let src = Rgb::new(3, 1, vec![1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert_eq!(flip_horizontal(&src).data, [7, 8, 9, 4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn pixels_are_planes_of_normalised_samples() {
        let src = Rgb::new(2, 1, vec![0, 51, 255, 255, 0, 102]).unwrap();
        let pixels = to_pixels(&src, &Normalize { mean: [0.5, 0.0, 0.25], std: [0.5, 0.1, 0.5] });
        let expected = [-1.0, 1.0, 0.2 / 0.1, 0.0, 1.5, (0.4 - 0.25) / 0.5];
        assert_eq!(pixels.len(), 6);
        for (pixel, expected) in pixels.iter().zip(expected) {
            assert!((pixel - expected).abs() < 1e-6, "{pixels:?}");
        }
        // NumPy's values for black and white under CLIP's statistics, in float32.
        let ends = to_pixels(&Rgb::new(1, 2, vec![0, 0, 0, 255, 255, 255]).unwrap(), &Normalize::CLIP);
        assert_eq!(ends, [-1.792_262_6, 1.930_336_1, -1.752_097_1, 2.074_883_7, -1.480_219_8, 2.145_897]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_fused_preparation_is_resize_then_crop(w in 1usize..90, h in 1usize..90, size in 1usize..40, seed: u32) {
            let src = pattern(w, h, seed);
            prop_assert_eq!(resize_center_crop(&src, size), center_crop(&resize_shortest_edge(&src, size), size));
        }

        #[test]
        fn one_colour_stays_one_colour(w in 1usize..60, h in 1usize..60, to in (1usize..60, 1usize..60), value: u8) {
            let out = resize_bicubic(&grey(w, h, |_, _| value), to.0, to.1);
            prop_assert_eq!((out.width, out.height), to);
            prop_assert!(out.data.iter().all(|&v| v == value));
        }

        #[test]
        fn two_flips_are_none(w in 1usize..20, h in 1usize..20, seed: u32) {
            let src = pattern(w, h, seed);
            prop_assert_eq!(flip_horizontal(&flip_horizontal(&src)), src);
        }
    }
}
