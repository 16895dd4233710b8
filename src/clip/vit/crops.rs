//! Crops of several sizes through the tower at once, for a student and a teacher: rows are packed as texts are, so that nothing is
//! padded and every layer is one product. Positions of a size that the tower was not trained on are interpolated.

use super::stem::Stem;
use super::{AdaptedTowerSaved, VisionTransformer};
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::attention::{Pattern, Span};
use crate::kernels::patch::{self, PatchEmbedding, Pictures};
use crate::nn::{Bottleneck, Pair, Picked, Teacher};
use crate::{Error, Result};

/// The slope of bicubic interpolation, as PyTorch has it; Pillow's is −0.5.
const SLOPE: f64 = -0.75;

/// What DINO's code adds to the number of cells before it works out the step, lest rounding lose one.
const MARGIN: f64 = 0.1;

/// Crops of some sides, and the positions of their tokens.
pub struct CropSizes(Vec<(usize, Tensor)>);

/// Crops, recorded for certain numbers of them.
pub struct Crops {
    /// `[count, 3, side, side]` of each size, normalised: what a step takes.
    pub pixels: Vec<Tensor>,
    positions: Vec<Tensor>,
    pattern: Pattern,
    picked: Picked,
    teacher: (Pattern, Picked),
}

/// Output of [`VisionTransformer::forward_crops`].
pub struct CropFeatures {
    /// The student's `[crops, embedding]`, un-normalised, size after size.
    pub student: Tensor,
    /// What [`VisionTransformer::backward_adapted`] needs, with [`Crops::pattern`].
    pub saved: AdaptedTowerSaved,
    /// The teacher's, of the crops of the first size alone.
    pub teacher: Tensor,
}

impl VisionTransformer {
    /// The embedding of patches, where crops of other sizes than the tower's own can be packed.
    fn packable(&self) -> Result<&PatchEmbedding> {
        let reason = match (&self.stem, &self.transformer.angles) {
            (_, Some(_)) => "has rotary positions, which are those of one grid",
            (Stem::Convolutions { .. }, _) => "begins with several convolutions",
            (Stem::Patches(embedding), _) if embedding.class.is_none() || !self.pool.is_class() => {
                "looks at all tokens and not at a class token alone"
            }
            (Stem::Patches(embedding), _) => return Ok(embedding),
        };
        Err(Error::invalid(format!(
            "this model's image tower {reason}; training without labels needs a ViT with a class token and learned positions, as \
             CLIP's are: take such a model, or train the correction with labels"
        )))
    }

    /// What crops of these sides in pixels need, each a multiple of the tower's patch. The positions of a grid that is not the
    /// tower's own are interpolated here, once.
    ///
    /// # Errors
    /// A tower without a class token or with rotary positions; a side that is no multiple of the patch; out of memory.
    pub fn crop_sizes(&self, sides: &[usize]) -> Result<CropSizes> {
        let embedding = self.packable()?;
        let grid = self.size / embedding.patch;
        let made = sides.iter().map(|side| {
            if *side == 0 || !side.is_multiple_of(embedding.patch) {
                let patch = embedding.patch;
                return Err(Error::invalid(format!("crops of {side} pixels; they must be a multiple of {patch}")));
            }
            Ok((*side, positions(&self.gpu, &embedding.position, grid, side / embedding.patch)?))
        });
        Ok(CropSizes(made.collect::<Result<_>>()?))
    }

    /// The side of local crops: as DINO's 96 of 224 pixels, to the nearest whole patch.
    ///
    /// # Errors
    /// As [`VisionTransformer::crop_sizes`].
    pub fn local_side(&self) -> Result<usize> {
        let patch = self.packable()?.patch;
        let cells = (self.size as f64 * 96.0 / 224.0 / patch as f64).round();
        Ok(patch * (cells as usize).max(1))
    }

    /// Room for `counts` crops of each size.
    ///
    /// # Errors
    /// Another number of counts than sizes, or none of a size; out of memory.
    pub fn crops(&self, sizes: &CropSizes, counts: &[usize]) -> Result<Crops> {
        if counts.len() != sizes.0.len() {
            return Err(Error::invalid(format!("{} counts of crops for {} sizes", counts.len(), sizes.0.len())));
        }
        let (mut spans, mut pixels) = (Vec::new(), Vec::new());
        let mut next = 0;
        for ((side, position), count) in sizes.0.iter().zip(counts) {
            pixels.push(self.gpu.empty("crops", &[*count, 3, *side, *side], DType::F32)?);
            for _ in 0..*count {
                spans.push(Span { start: next, len: position.rows() });
                next += position.rows();
            }
        }
        let own = &spans[..counts.first().copied().unwrap_or(0).min(spans.len())];
        let of = |spans: &[Span]| -> Result<(Pattern, Picked)> {
            let classes: Vec<u32> = spans.iter().map(|span| span.start as u32).collect();
            let pattern = Pattern::new(&self.gpu, None, spans, false)?;
            let picked = Picked::new(&self.gpu, &classes, pattern.rows())?;
            Ok((pattern, picked))
        };
        let teacher = of(own)?;
        let (pattern, picked) = of(&spans)?;
        let positions = sizes.0.iter().map(|(_, position)| position.clone()).collect();
        Ok(Crops { pixels, positions, pattern, picked, teacher })
    }

    /// Records student and teacher on one tower: both see the crops of the first size, the student the others too. What lies
    /// below the first bottleneck is computed once.
    ///
    /// # Errors
    /// As [`Transformer::forward_pair`](crate::nn::Transformer::forward_pair).
    pub fn forward_crops(
        &self,
        rec: &mut Recorder,
        crops: &Crops,
        student: &[Bottleneck],
        teacher: &[Bottleneck],
    ) -> Result<CropFeatures> {
        let pictures: Vec<Pictures<'_>> =
            crops.pixels.iter().zip(&crops.positions).map(|(pixels, position)| Pictures { pixels, position }).collect();
        let x = patch::forward_sizes(rec, &pictures, self.packable()?)?;
        let x = self.normed(rec, x)?;
        let teacher = Teacher { bottlenecks: teacher, pattern: &crops.teacher.0, picked: &crops.teacher.1 };
        let pair = self.transformer.forward_pair(rec, x, (&crops.pattern, &crops.picked), student, &teacher)?;
        let Pair { student, saved: blocks, teacher } = pair;
        let (_, teacher) = self.head(rec, &teacher)?;
        let (pooled, pool) = self.pool.forward_saved(rec, &student)?;
        Ok(CropFeatures { student: self.project(rec, &pooled)?, saved: AdaptedTowerSaved { pool, blocks }, teacher })
    }
}

impl Crops {
    /// Which of the student's rows belong to which crop.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

/// Positions for a grid of `cells`² from those of one of `grid`².
fn positions(gpu: &Gpu, position: &Tensor, grid: usize, cells: usize) -> Result<Tensor> {
    if cells == grid {
        return Ok(position.clone());
    }
    let first = position.rows().saturating_sub(grid * grid);
    let shape = [first + cells * cells, position.cols()];
    if gpu.rehearses() {
        return gpu.empty("positions", &shape, DType::F32);
    }
    let values = interpolated(&gpu.read(position)?, [first, grid, position.cols()], cells, SLOPE);
    gpu.upload("positions", &values, &shape)
}

/// Positions `[first + cells², width]` from values `[first + grid², width]`, by bicubic interpolation with this slope at steps of
/// grid/(cells + 0.1), as DINO's code has it; past the border the last row or column stands. The `first` rows stay as they are. A
/// linear map, in f64.
fn interpolated(values: &[f32], [first, grid, width]: [usize; 3], cells: usize, slope: f64) -> Vec<f32> {
    let (before, table) = values.split_at(first * width);
    let taps = taps(grid, cells, slope);
    let mut out = before.to_vec();
    for (rows, columns) in taps.iter().flat_map(|rows| taps.iter().map(move |columns| (rows, columns))) {
        let mut sum = vec![0.0f64; width];
        for ((row, u), (column, v)) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
            let at = (row * grid + column) * width;
            for (sum, value) in sum.iter_mut().zip(&table[at..at + width]) {
                *sum += u * v * f64::from(*value);
            }
        }
        out.extend(sum.iter().map(|v| *v as f32));
    }
    out
}

/// The four places and weights that each of `cells` is made of.
fn taps(grid: usize, cells: usize, slope: f64) -> Vec<[(usize, f64); 4]> {
    let step = grid as f64 / (cells as f64 + MARGIN);
    let weight = |distance: f64| match distance.abs() {
        d if d <= 1.0 => ((slope + 2.0) * d - (slope + 3.0)) * d * d + 1.0,
        d if d < 2.0 => slope * (((d - 5.0) * d + 8.0) * d - 4.0),
        _ => 0.0,
    };
    let of = |cell: usize| {
        let at = (cell as f64 + 0.5) * step - 0.5;
        let floor = at.floor();
        [-1.0, 0.0, 1.0, 2.0].map(|by| {
            let place = floor + by;
            (place.clamp(0.0, grid as f64 - 1.0) as usize, weight(at - place))
        })
    };
    (0..cells).map(of).collect()
}

/// Positions for crops of `side` pixels, for comparison with another implementation, also with another slope.
#[doc(hidden)]
impl VisionTransformer {
    /// As a step has them, or with this slope.
    ///
    /// # Errors
    /// As [`VisionTransformer::crop_sizes`].
    pub fn crop_positions(&self, side: usize, slope: Option<f64>) -> Result<Vec<f32>> {
        let Some(slope) = slope else {
            let sizes = self.crop_sizes(&[side])?;
            return sizes.0.first().map_or(Ok(Vec::new()), |(_, position)| self.gpu.read(position));
        };
        let embedding = self.packable()?;
        let (grid, cells, width) = (self.size / embedding.patch, side / embedding.patch, embedding.position.cols());
        Ok(interpolated(&self.gpu.read(&embedding.position)?, [1, grid, width], cells, slope))
    }
}

#[cfg(test)]
mod tests {
    use super::{SLOPE, interpolated, taps};

    #[test]
    fn weights_of_a_cell_add_up_to_one_and_keep_lines_straight_inside() {
        for (grid, cells) in [(14, 6), (16, 7), (7, 3), (4, 2), (5, 9), (3, 1)] {
            for (i, taps) in taps(grid, cells, SLOPE).iter().enumerate() {
                let sum: f64 = taps.iter().map(|(_, w)| w).sum();
                assert!((sum - 1.0).abs() < 1e-12, "{grid} to {cells}: {sum}");
                assert!(taps.iter().all(|(place, _)| *place < grid));
                let at = (i as f64 + 0.5) * grid as f64 / (cells as f64 + 0.1) - 0.5;
                assert!(taps.iter().any(|(place, _)| (*place as f64 - at).abs() <= 1.0), "{grid} to {cells}: {i}");
            }
        }
    }

    #[test]
    fn what_is_the_same_everywhere_stays_and_rows_are_not_columns() {
        // A class token of 9, then a grid of 5 whose cells are 10·row + column.
        let cells = (0..25).map(|i| (10 * (i / 5) + i % 5) as f32);
        let values: Vec<f32> = [9.0].into_iter().chain(cells).collect();
        let made = interpolated(&values, [1, 5, 1], 3, SLOPE);
        assert_eq!((made.len(), made[0]), (10, 9.0));
        for pair in [(1, 2), (4, 5), (8, 9)] {
            let along = made[pair.1] - made[pair.0];
            let down = made[pair.0 + if pair.0 < 7 { 3 } else { 0 }] - made[pair.0];
            assert!(along > 1.0 && along < 2.2, "{made:?}");
            assert!(pair.0 >= 7 || down > 10.0, "{made:?}");
        }
        let flat = interpolated(&[2.0; 26], [1, 5, 1], 4, SLOPE);
        assert!(flat.iter().all(|v| (v - 2.0).abs() < 1e-6));
    }
}
