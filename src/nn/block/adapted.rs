//! The stack with a bottleneck beside each MLP: beside the plain one, in training, and as a student's and a teacher's, each with
//! bottlenecks of its own. What lies below the first bottleneck is computed once.

use super::{Picked, Saved, Transformer};
use crate::gpu::{Recorder, Tensor};
use crate::kernels::attention::Pattern;
use crate::nn::bottleneck::{self, Bottleneck, BottleneckGrads};
use crate::{Error, Result};

/// What backward through a block with a bottleneck needs.
pub struct AdaptedSaved {
    /// The residual stream after attention: the bottleneck's input.
    mid: Tensor,
    bottleneck: bottleneck::Saved,
    /// Nothing below the first block's bottleneck trains, so the first block keeps nothing else.
    frozen: Option<Saved>,
}

/// A teacher, who sees the first of the sequences.
pub struct Teacher<'a> {
    /// One for each block.
    pub bottlenecks: &'a [Bottleneck],
    /// Its sequences: the first of all.
    pub pattern: &'a Pattern,
    /// Of its rows, those that anybody looks at: the first of all that are picked.
    pub picked: &'a Picked,
}

/// Output of [`Transformer::forward_pair`].
pub struct Pair {
    /// The student's picked rows.
    pub student: Tensor,
    /// What [`Transformer::backward_adapted`] needs of each of the student's blocks.
    pub saved: Vec<AdaptedSaved>,
    /// The teacher's picked rows.
    pub teacher: Tensor,
}

impl Transformer {
    pub(super) fn check_bottlenecks(&self, bottlenecks: &[Bottleneck]) -> Result<()> {
        if bottlenecks.len() == self.blocks.len() && !bottlenecks.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!("{} bottlenecks for {} blocks", bottlenecks.len(), self.blocks.len())))
    }

    /// Inference with and without a bottleneck in every block: the picked rows (plain, adapted). The first block's
    /// attention and MLP see the same input either way and are computed once.
    ///
    /// # Errors
    /// Another number of bottlenecks than blocks; shapes that do not fit; out of memory.
    pub fn forward_both(
        &self,
        rec: &mut Recorder,
        x: Tensor,
        pattern: &Pattern,
        picked: Option<&Picked>,
        bottlenecks: &[Bottleneck],
    ) -> Result<(Tensor, Tensor)> {
        self.check_bottlenecks(bottlenecks)?;
        let (mid, mut plain) = self.first(rec, &x, pattern, picked)?;
        // Taken by value and not kept by the caller: what is held when a recording ends gets a place of its own.
        drop(x);
        let adapted = bottlenecks[0].forward(rec, &mid, Some(&plain))?;
        drop(mid);
        for (i, block) in self.blocks.iter().enumerate().skip(1) {
            let mid = self.attend(rec, block, &plain, pattern, self.picked_in(i, picked))?;
            plain = self.mlp(rec, block, &mid)?;
        }
        let adapted = self.adapted(rec, adapted, pattern, picked, bottlenecks)?;
        Ok((plain, adapted))
    }

    /// What the first block's bottleneck takes, and what it adds to: the same whatever bottlenecks there are.
    fn first(
        &self,
        rec: &mut Recorder,
        x: &Tensor,
        pattern: &Pattern,
        picked: Option<&Picked>,
    ) -> Result<(Tensor, Tensor)> {
        let mid = self.attend(rec, &self.blocks[0], x, pattern, self.picked_in(0, picked))?;
        let plain = self.mlp(rec, &self.blocks[0], &mid)?;
        Ok((mid, plain))
    }

    /// All blocks with bottlenecks but the first, keeping nothing.
    fn adapted(
        &self,
        rec: &mut Recorder,
        x: Tensor,
        pattern: &Pattern,
        picked: Option<&Picked>,
        bottlenecks: &[Bottleneck],
    ) -> Result<Tensor> {
        let mut x = x;
        for (i, (block, bottleneck)) in self.blocks.iter().zip(bottlenecks).enumerate().skip(1) {
            let mid = self.attend(rec, block, &x, pattern, self.picked_in(i, picked))?;
            let plain = self.mlp(rec, block, &mid)?;
            x = bottleneck.forward(rec, &mid, Some(&plain))?;
        }
        Ok(x)
    }

    /// Training of bottlenecks: the picked rows of the adapted stream, and what [`Transformer::backward_adapted`] needs of
    /// each block. `masks` holds one dropout mask `[rows, bottleneck]` per block, or none.
    ///
    /// # Errors
    /// Another number of bottlenecks or masks than blocks; shapes that do not fit; out of memory.
    pub fn forward_adapted(
        &self,
        rec: &mut Recorder,
        x: Tensor,
        pattern: &Pattern,
        picked: Option<&Picked>,
        bottlenecks: &[Bottleneck],
        masks: &[Tensor],
    ) -> Result<(Tensor, Vec<AdaptedSaved>)> {
        self.check_bottlenecks(bottlenecks)?;
        if !masks.is_empty() && masks.len() != bottlenecks.len() {
            return Err(Error::invalid(format!("{} dropout masks for {} blocks", masks.len(), bottlenecks.len())));
        }
        let first = self.first(rec, &x, pattern, picked)?;
        drop(x);
        self.adapted_saved(rec, first, (pattern, picked), bottlenecks, masks)
    }

    /// The same from what [`Transformer::first`] gave.
    fn adapted_saved(
        &self,
        rec: &mut Recorder,
        (mid, plain): (Tensor, Tensor),
        (pattern, picked): (&Pattern, Option<&Picked>),
        bottlenecks: &[Bottleneck],
        masks: &[Tensor],
    ) -> Result<(Tensor, Vec<AdaptedSaved>)> {
        let mut all = Vec::with_capacity(self.blocks.len());
        let mask = |rec: &mut Recorder, i: usize| match (masks.get(i), self.picked_in(i, picked)) {
            (Some(mask), Some(picked)) => picked.of(rec, mask).map(Some),
            (mask, _) => Ok(mask.cloned()),
        };
        let own = mask(rec, 0)?;
        let (mut x, saved) = bottlenecks[0].forward_saved(rec, &mid, &plain, own.as_ref())?;
        drop(plain);
        all.push(AdaptedSaved { mid, bottleneck: saved, frozen: None });
        for (i, (block, bottleneck)) in self.blocks.iter().zip(bottlenecks).enumerate().skip(1) {
            let (mid, attention) = self.attend_saved(rec, block, &x, pattern, self.picked_in(i, picked))?;
            let (plain, mlp) = self.mlp_saved(rec, block, &mid)?;
            let mask = mask(rec, i)?;
            let (y, bottleneck) = bottleneck.forward_saved(rec, &mid, &plain, mask.as_ref())?;
            all.push(AdaptedSaved { mid, bottleneck, frozen: Some(Saved { attention, mlp }) });
            x = y;
        }
        Ok((x, all))
    }

    /// The bottlenecks' gradients, in the order of the blocks, from dY of the adapted stream. Backward ends at the first
    /// block's bottleneck: below it nothing trains. `saved` is used up.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward_adapted(
        &self,
        rec: &mut Recorder,
        dy: Tensor,
        saved: Vec<AdaptedSaved>,
        pattern: &Pattern,
        bottlenecks: &[Bottleneck],
    ) -> Result<Vec<BottleneckGrads>> {
        let mut dy = dy;
        let mut all = Vec::with_capacity(saved.len());
        for ((block, bottleneck), s) in self.blocks.iter().zip(bottlenecks).zip(saved).rev() {
            let Some(frozen) = s.frozen else {
                all.push(bottleneck.backward(rec, &s.mid, &s.bottleneck, &dy, None)?.0);
                break;
            };
            let dmid = self.mlp_backward(rec, block, &dy, frozen.mlp)?;
            let (grads, total) = bottleneck.backward(rec, &s.mid, &s.bottleneck, &dy, Some(&dmid))?;
            all.push(grads);
            let dmid = total.unwrap_or(dmid);
            dy = self.attend_backward(rec, block, &dmid, frozen.attention, pattern)?;
        }
        all.reverse();
        Ok(all)
    }

    /// Training of the student's bottlenecks: x `[rows, width]` through both. Of the teacher nothing is kept.
    ///
    /// # Errors
    /// Another number of bottlenecks than blocks; a teacher with more rows than there are; out of memory.
    pub fn forward_pair(
        &self,
        rec: &mut Recorder,
        x: Tensor,
        (pattern, picked): (&Pattern, &Picked),
        bottlenecks: &[Bottleneck],
        teacher: &Teacher<'_>,
    ) -> Result<Pair> {
        self.check_bottlenecks(bottlenecks)?;
        self.check_bottlenecks(teacher.bottlenecks)?;
        let (mid, plain) = self.first(rec, &x, pattern, Some(picked))?;
        // Taken by value and not kept by the caller: what is held when a recording ends gets a place of its own.
        drop(x);
        let rows = if self.blocks.len() == 1 { teacher.picked.len() } else { teacher.pattern.rows() };
        let y = teacher.bottlenecks[0].forward(rec, &mid.first_rows(rows)?, Some(&plain.first_rows(rows)?))?;
        let y = self.adapted(rec, y, teacher.pattern, Some(teacher.picked), teacher.bottlenecks)?;
        let (student, saved) = self.adapted_saved(rec, (mid, plain), (pattern, Some(picked)), bottlenecks, &[])?;
        Ok(Pair { student, saved, teacher: y })
    }
}
