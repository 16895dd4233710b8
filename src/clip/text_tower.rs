//! The text tower: token + position embedding → blocks → end token → final norm → projection.
//!
//! Texts are packed: cut after their end token, where attention is causal (what follows cannot change it), and laid one
//! after the other. Texts that begin alike can then share those rows: computed once, attended to by all. Where every token
//! sees all others (SigLIP), a text is taken whole, its padding too, and nothing is shared.

mod taps;

use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::config::{ClipConfig, EndToken};
use super::image_tower::DAMAGED;
use super::loader::Loader;
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::attention::{Pattern, Span};
use crate::kernels::gemm::Epilogue;
use crate::nn::{FrozenLinear, LayerNorm, Picked, Saved, Transformer};
use crate::{Error, Result};

pub use taps::TextTaps;

/// Rows that one inference step of [`TextTower::encode`] takes: bounds memory, whatever the number of texts.
const ROWS: usize = 2048;

/// Packed texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompts {
    /// Token ids of all rows: the shared prefix, then each text's own rows.
    ids: Vec<u32>,
    /// Position of each row in its text.
    positions: Vec<u32>,
    prefix: usize,
    /// Own rows of each text.
    spans: Vec<Span>,
    /// Row of each text's end token.
    ends: Vec<u32>,
}

impl Prompts {
    /// Packs texts, each cut after its end token.
    ///
    /// # Errors
    /// No texts, or one without an end token.
    pub fn pack(texts: &[Vec<u32>], end: EndToken) -> Result<Prompts> {
        Prompts::build(texts, end, 0, true)
    }

    /// As [`Prompts::pack`], the first `prefix` tokens shared by all.
    ///
    /// # Errors
    /// Texts that differ within the prefix, or do not go beyond it.
    pub fn pack_shared(texts: &[Vec<u32>], end: EndToken, prefix: usize) -> Result<Prompts> {
        Prompts::build(texts, end, prefix, true)
    }

    /// As [`Prompts::pack`], nothing cut: for towers whose tokens see all others.
    ///
    /// # Errors
    /// As [`Prompts::pack`].
    pub fn pack_whole(texts: &[Vec<u32>], end: EndToken) -> Result<Prompts> {
        Prompts::build(texts, end, 0, false)
    }

    fn build(texts: &[Vec<u32>], end: EndToken, prefix: usize, cut: bool) -> Result<Prompts> {
        let first = texts.first().ok_or_else(|| Error::invalid("no texts to encode"))?;
        let shared = first.get(..prefix).ok_or_else(|| Error::invalid("a text is shorter than the shared prefix"))?;
        let mut packed = Prompts {
            ids: shared.to_vec(),
            positions: (0..prefix as u32).collect(),
            prefix,
            spans: Vec::with_capacity(texts.len()),
            ends: Vec::with_capacity(texts.len()),
        };
        for (i, text) in texts.iter().enumerate() {
            let at = end.position(text).ok_or_else(|| Error::invalid(format!("text {i} has no end token")))?;
            if at < prefix || text.get(..prefix) != Some(shared) {
                return Err(Error::invalid(format!("text {i} does not begin with the {prefix} shared tokens")));
            }
            let stop = if cut { at + 1 } else { text.len() };
            let start = packed.ids.len();
            packed.ids.extend(&text[prefix..stop]);
            packed.positions.extend(prefix as u32..stop as u32);
            packed.spans.push(Span { start, len: stop - prefix });
            packed.ends.push((start + at - prefix) as u32);
        }
        Ok(packed)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no texts; packing refuses that, the method completes [`Prompts::len`].
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Rows that the tower computes.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Row of each text's end token.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    fn pattern(&self, gpu: &Gpu, causal: bool) -> Result<Pattern> {
        let prefix = (self.prefix > 0).then_some(Span { start: 0, len: self.prefix });
        Pattern::new(gpu, prefix, &self.spans, causal)
    }
}

/// A frozen text tower.
pub struct TextTower {
    gpu: Gpu,
    checkpoint: Arc<Checkpoint>,
    /// `[context, width]`; added to the gathered tokens on the CPU.
    positions: Vec<f32>,
    /// The blocks.
    pub transformer: Transformer,
    norm: LayerNorm,
    projection: Option<FrozenLinear>,
    vocabulary: usize,
    context: usize,
    width: usize,
    embedding: usize,
    causal: bool,
}

/// A pack on the GPU: what a recorded pass through the tower needs besides its input rows.
pub struct Packed {
    pattern: Pattern,
    ends: Picked,
}

/// What backward through the tower needs.
pub struct TextSaved {
    blocks: Vec<Saved>,
    picked: Tensor,
    stats: Tensor,
}

impl TextTower {
    pub(super) fn load(loader: &Loader<'_>, checkpoint: &Arc<Checkpoint>, config: &ClipConfig) -> Result<TextTower> {
        let (context, width) = (config.context, config.text.width);
        let scheme = checkpoint.names();
        let names = scheme.text();
        let whole = |name: &str| checkpoint.text_name(name);
        let projection = (&*checkpoint.text_name(""), &names.projection);
        let tower = TextTower {
            gpu: loader.gpu.clone(),
            checkpoint: checkpoint.clone(),
            positions: checkpoint.values(&whole(names.position), &[context, width])?,
            transformer: loader.transformer(&whole(names.blocks), scheme.text_block(), &config.text, None)?,
            norm: loader.norm(&whole(names.norm), width, config.text.eps)?,
            projection: loader.projection(projection, config.text_projection, width, config.embedding)?,
            vocabulary: config.vocabulary,
            context,
            width,
            embedding: config.embedding,
            causal: config.causal,
        };
        // The token table stays in the file; a wrong one should still be found now and not at the first text.
        checkpoint.check(&tower.token_table(), &[tower.vocabulary, width])?;
        Ok(tower)
    }

    fn token_table(&self) -> String {
        self.checkpoint.text_name(self.checkpoint.names().text().tokens)
    }

    /// Whether a token sees those before it only.
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Token plus position embedding of every row, `[rows, width]`, gathered on the CPU from the checkpoint's file: the
    /// table itself never goes to the GPU.
    ///
    /// # Errors
    /// An id past the vocabulary, a text longer than the context, out of memory.
    pub fn embed(&self, prompts: &Prompts) -> Result<Tensor> {
        let shape = [prompts.rows(), self.width];
        if self.gpu.rehearses() {
            return self.gpu.empty("token embeddings", &shape, DType::F32);
        }
        let mut rows = self.checkpoint.rows(&self.token_table(), [self.vocabulary, self.width], &prompts.ids)?;
        for (row, position) in rows.chunks_exact_mut(self.width).zip(&prompts.positions) {
            let at = *position as usize * self.width;
            let Some(added) = self.positions.get(at..at + self.width) else {
                return Err(Error::invalid(format!("a text is longer than the context of {} tokens", self.context)));
            };
            for (x, p) in row.iter_mut().zip(added) {
                *x += p;
            }
        }
        self.gpu.upload("token embeddings", &rows, &shape)
    }

    /// Uploads a pack's tables.
    ///
    /// # Errors
    /// Out of memory.
    pub fn packed(&self, prompts: &Prompts) -> Result<Packed> {
        Ok(Packed {
            pattern: prompts.pattern(&self.gpu, self.causal)?,
            ends: Picked::new(&self.gpu, &prompts.ends, prompts.rows())?,
        })
    }

    /// Records inference: rows `[rows, width]` → features `[texts, embedding]`, un-normalised.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: Tensor, packed: &Packed) -> Result<Tensor> {
        let picked = self.transformer.forward(rec, x, &packed.pattern, Some(&packed.ends))?;
        let pooled = self.norm.forward(rec, &picked)?.y;
        self.project(rec, &pooled)
    }

    fn project(&self, rec: &mut Recorder, pooled: &Tensor) -> Result<Tensor> {
        match &self.projection {
            Some(projection) => projection.forward(rec, pooled, &Epilogue::default()),
            None => Ok(pooled.clone()),
        }
    }

    /// Records a training pass: as [`TextTower::forward`], and what backward needs.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_saved(&self, rec: &mut Recorder, x: &Tensor, packed: &Packed) -> Result<(Tensor, TextSaved)> {
        let (picked, blocks) = self.transformer.forward_saved(rec, x, &packed.pattern, Some(&packed.ends))?;
        let normed = self.norm.forward(rec, &picked)?;
        let features = self.project(rec, &normed.y)?;
        Ok((features, TextSaved { blocks, picked, stats: normed.stats }))
    }

    /// Records the gradient by the input rows, from the gradient by the features.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(
        &self,
        rec: &mut Recorder,
        dfeatures: &Tensor,
        saved: TextSaved,
        packed: &Packed,
    ) -> Result<Tensor> {
        let dpooled = match &self.projection {
            Some(projection) => projection.backward(rec, dfeatures)?,
            None => dfeatures.clone(),
        };
        let dpicked = self.norm.backward(rec, &saved.picked, &saved.stats, &dpooled, None)?;
        self.transformer.backward(rec, dpicked, saved.blocks, &packed.pattern)
    }

    /// Features of any number of texts, `[texts, embedding]` on the host, un-normalised. Steps are cut by rows, so memory
    /// does not grow with the number of texts.
    ///
    /// # Errors
    /// Texts without an end token or past the context; out of memory; a lost device.
    pub fn encode(&self, texts: &[Vec<u32>], end: EndToken) -> Result<Vec<f32>> {
        let mut features = Vec::new();
        let mut rest = texts;
        let mut rehearsed: Option<Prompts> = None;
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = rest.iter().take_while(|t| {
                rows += t.len();
                rows <= ROWS
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            rest = later;
            let prompts = if self.causal { Prompts::pack(now, end) } else { Prompts::pack_whole(now, end) }?;
            // A rehearsal learns nothing from a step like the last one.
            if self.gpu.rehearses() && rehearsed.as_ref() == Some(&prompts) {
                continue;
            }
            let packed = self.packed(&prompts)?;
            let mut rec = Recorder::new(&self.gpu);
            let y = self.forward(&mut rec, self.embed(&prompts)?, &packed)?;
            rec.finish()?.run()?;
            features.extend(self.gpu.read::<f32>(&y.named("text features", DAMAGED))?);
            rehearsed = self.gpu.rehearses().then_some(prompts);
        }
        if self.gpu.rehearses() {
            features.resize(texts.len() * self.embedding, 0.0);
        }
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::{EndToken, Prompts};

    #[test]
    fn texts_are_cut_after_the_end_token() {
        let p = Prompts::pack(&[vec![8, 1, 2, 9, 0, 0], vec![8, 9, 9, 9, 9, 9]], EndToken::First(9)).unwrap();
        assert_eq!((p.rows(), p.ends()), (6, &[3u32, 5][..]));
        assert_eq!(p.positions, [0, 1, 2, 3, 0, 1]);
        let whole = Prompts::pack_whole(&[vec![8, 1, 2, 9, 0, 0]], EndToken::First(9)).unwrap();
        assert_eq!((whole.rows(), whole.ends()), (6, &[3u32][..]));
    }

    #[test]
    fn a_shared_prefix_is_packed_once_and_must_be_shared() {
        let texts = [vec![8, 5, 5, 1, 9], vec![8, 5, 5, 2, 3, 9]];
        let p = Prompts::pack_shared(&texts, EndToken::HighestId, 3).unwrap();
        assert_eq!(p.ids, [8, 5, 5, 1, 9, 2, 3, 9]);
        assert_eq!(p.positions, [0, 1, 2, 3, 4, 3, 4, 5]);
        assert_eq!(p.ends(), [4, 7]);
        assert!(Prompts::pack_shared(&[vec![8, 5, 9], vec![8, 6, 9]], EndToken::HighestId, 2).is_err());
        assert!(Prompts::pack_shared(&[vec![8, 9, 0]], EndToken::HighestId, 3).is_err());
    }
}
