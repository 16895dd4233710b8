//! What a vision transformer is made of.

use std::path::Path;

use super::TowerConfig;
use crate::kernels::activation::Activation;
use crate::{Error, Result};

/// A vision transformer: patches, blocks, and how their tokens become features.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// The blocks.
    pub tower: TowerConfig,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// What makes tokens of patches.
    pub stem: Stem,
    /// Whether a class token stands before the patches.
    pub class: bool,
    /// Whether the class token has a position of its own.
    pub class_position: bool,
    /// Whether there is a norm before the blocks.
    pub pre_norm: bool,
    /// Rotary positions inside attention, beside the learned ones.
    pub rotary: Option<Rotary>,
    /// How the tokens become one row.
    pub pool: Pool,
    /// The last layer.
    pub projection: ProjectionForm,
}

/// What makes tokens of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stem {
    /// One linear layer.
    Patches {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Three convolutions whose windows do not overlap, of sides 4, 2 and 2, with batch norms and GELU between (MobileCLIP-B,
    /// arXiv 2311.17049).
    Convolutions,
}

/// How a picture's tokens become one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pool {
    /// The class token, through the last norm.
    Class,
    /// The mean of the patches' tokens.
    Mean {
        /// Whether the norm comes before the mean, and not after it.
        norm_first: bool,
    },
    /// Attention of a learned query to all tokens after the last norm, and an MLP: SigLIP, PE-Core.
    Attention {
        /// Its heads.
        heads: usize,
        /// Width of its MLP.
        mlp: usize,
        /// Activation of its MLP.
        activation: Activation,
    },
}

/// The layer that leads into the joint space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectionForm {
    /// There is none: features are what was there before.
    None,
    /// A matrix.
    Plain,
    /// A matrix and a bias.
    Biased,
    /// Two matrices, GELU between them: of text towers from transformers in open_clip.
    Mlp {
        /// Width between the two.
        hidden: usize,
    },
}

/// Axial rotary positions of a grid of patches (arXiv 2104.09864; EVA-02, arXiv 2303.11331).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// Patches along a side that angles are scaled to.
    pub reference: usize,
    /// Added to a patch's row and column.
    pub offset: f64,
    /// Whether a column's angles come before a row's.
    pub column_first: bool,
}

/// Base of the rotary frequencies.
const TEMPERATURE: f64 = 10_000.0;

impl Rotary {
    /// The angles `[tokens, head/2]` of `before` tokens without a place, which are not turned, and of a grid.
    pub fn angles(&self, before: usize, grid: usize, head: usize) -> Vec<f64> {
        let bands = head / 4;
        let along = |place: usize| {
            let at = (place as f64 + self.offset) / grid as f64 * self.reference as f64;
            (0..bands).map(move |band| at / TEMPERATURE.powf(band as f64 / bands as f64))
        };
        let mut angles = vec![0.0; before * head / 2];
        for (row, column) in (0..grid * grid).map(|cell| (cell / grid, cell % grid)) {
            let (first, second) = if self.column_first { (column, row) } else { (row, column) };
            angles.extend(along(first).chain(along(second)));
        }
        angles
    }
}

impl VitConfig {
    /// CLIP's own: class token, a norm before the blocks, a matrix behind them.
    pub(super) fn clip(tower: TowerConfig, patch: usize) -> VitConfig {
        VitConfig {
            tower,
            patch,
            stem: Stem::Patches { bias: false },
            class: true,
            class_position: true,
            pre_norm: true,
            rotary: None,
            pool: Pool::Class,
            projection: ProjectionForm::Plain,
        }
    }

    /// SigLIP's: no class token, and a pool that gives the features.
    pub(super) fn siglip(tower: TowerConfig, patch: usize, pool: Pool) -> VitConfig {
        VitConfig {
            stem: Stem::Patches { bias: true },
            class: false,
            pre_norm: false,
            pool,
            projection: ProjectionForm::None,
            ..VitConfig::clip(tower, patch)
        }
    }

    pub(super) fn check(&self, path: &Path, size: usize) -> Result<()> {
        let (patch, width) = (self.patch, self.tower.width);
        if patch > size {
            return Err(Error::config(path, format!("patch size {patch} is larger than the image size {size}")));
        }
        match self.pool {
            Pool::Class if !self.class => Err(Error::config(path, "a tower without a class token cannot pool by it")),
            Pool::Attention { heads, .. } if !width.is_multiple_of(heads) => Err(Error::config(
                path,
                format!("image width {width} is not divisible by the {heads} heads of its pooling"),
            )),
            _ if self.rotary.is_some() && !(width / self.tower.heads).is_multiple_of(4) => {
                let head = width / self.tower.heads;
                Err(Error::config(path, format!("rotary positions want heads a multiple of 4 wide; these are {head}")))
            }
            _ => Ok(()),
        }
    }
}
