//! The text tower: token + position embedding → blocks → end token → final norm → projection. RoBERTa's has a norm before the
//! blocks instead of behind them, and reads the mean of all tokens.
//!
//! Texts are packed: cut after their end token, where attention is causal (what follows cannot change it), and laid one
//! after the other. Texts that begin alike can then share those rows: computed once, attended to by all. Where every token
//! sees all others (SigLIP), a text is taken whole, its padding too, and nothing is shared. Where padding is hidden from all
//! tokens (RoBERTa), it is left out.

mod taps;

use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::config::{ClipConfig, EndToken, TextStem};
use super::image_tower::DAMAGED;
use super::loader::Loader;
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::attention::{Pattern, Span};
use crate::kernels::gemm::Epilogue;
use crate::kernels::pooling::{self, Spans};
use crate::nn::{FrozenLinear, LayerNorm, Norms, Picked, Saved, Transformer};
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
    /// Row of each text's end token; none where all tokens are read.
    ends: Vec<u32>,
}

impl Prompts {
    /// Packs texts, each cut after its end token, where one is read, else without its padding.
    ///
    /// # Errors
    /// No texts, or one without what is read.
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
            if let Some(lacking) = end.lacking(text) {
                return Err(Error::invalid(format!("text {i} has {lacking}")));
            }
            let at = end.position(text);
            if at.is_some_and(|at| at < prefix) || text.get(..prefix) != Some(shared) {
                return Err(Error::invalid(format!("text {i} does not begin with the {prefix} shared tokens")));
            }
            let stop = at.filter(|_| cut).map_or(text.len(), |at| at + 1);
            let start = packed.ids.len();
            match end {
                EndToken::Mean { pad } => packed.ids.extend(text[prefix..].iter().filter(|id| **id != pad)),
                _ => packed.ids.extend(&text[prefix..stop]),
            }
            let len = packed.ids.len() - start;
            packed.positions.extend((prefix..prefix + len).map(|position| position as u32));
            packed.spans.push(Span { start, len });
            packed.ends.extend(at.map(|at| (start + at - prefix) as u32));
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

    /// Row of each text's end token; none where all tokens are read.
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
    /// The name of the token table.
    tokens: String,
    /// `[context, width]`; added to the gathered tokens on the CPU.
    positions: Vec<f32>,
    /// Before the blocks.
    pre: Option<LayerNorm>,
    /// The blocks.
    pub transformer: Transformer,
    /// Behind them, where the last block's own does not stand there.
    norm: Option<LayerNorm>,
    /// The first layer of a projection that is an MLP.
    inner: Option<FrozenLinear>,
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
    read: Read,
}

/// What a text's features are read from.
enum Read {
    Ends(Picked),
    Mean(Spans),
}

impl Packed {
    /// The rows that the last block computes; all where none are named.
    fn picked(&self) -> Option<&Picked> {
        match &self.read {
            Read::Ends(ends) => Some(ends),
            Read::Mean(_) => None,
        }
    }

    /// One row for each text, of what the blocks gave.
    fn pooled(&self, rec: &mut Recorder, x: Tensor) -> Result<Tensor> {
        match &self.read {
            Read::Ends(_) => Ok(x),
            Read::Mean(texts) => pooling::mean_of_spans(rec, &x, texts),
        }
    }

    /// The gradient by what the blocks gave.
    fn pooled_back(&self, rec: &mut Recorder, dy: Tensor) -> Result<Tensor> {
        match &self.read {
            Read::Ends(_) => Ok(dy),
            Read::Mean(texts) => pooling::mean_of_spans_backward(rec, &dy, texts),
        }
    }
}

/// A norm's input and statistics.
struct Normed {
    x: Tensor,
    stats: Tensor,
}

/// What backward through the tower needs.
pub struct TextSaved {
    pre: Option<Normed>,
    blocks: Vec<Saved>,
    last: Option<Normed>,
    /// What the projection's first layer gave.
    inner: Option<Tensor>,
}

/// x through a norm, where there is one, and then what backward needs.
fn through(rec: &mut Recorder, norm: Option<&LayerNorm>, x: Tensor) -> Result<(Tensor, Option<Normed>)> {
    let Some(norm) = norm else { return Ok((x, None)) };
    let normed = norm.forward(rec, &x)?;
    Ok((normed.y, Some(Normed { x, stats: normed.stats })))
}

/// The gradient through it.
fn through_back(rec: &mut Recorder, norm: Option<&LayerNorm>, saved: Option<Normed>, dy: Tensor) -> Result<Tensor> {
    match (norm, saved) {
        (Some(norm), Some(Normed { x, stats })) => norm.backward(rec, &x, &stats, &dy, None),
        _ => Ok(dy),
    }
}

impl TextTower {
    pub(super) fn load(loader: &Loader<'_>, checkpoint: &Arc<Checkpoint>, config: &ClipConfig) -> Result<TextTower> {
        let (context, width, eps) = (config.context, config.text.width, config.text.eps);
        let scheme = checkpoint.names();
        let names = scheme.text(config.text_stem);
        let whole = |name: &str| checkpoint.text_name(name);
        let (prefix, form) = (whole(""), config.text_projection);
        let norm = |name: Option<&str>, part: &str| loader.norm(&whole(loader.named(name, part)?), width, eps);
        let position = whole(names.position);
        let (positions, pre) = match config.text_stem {
            TextStem::Plain => (checkpoint.values(&position, &[context, width])?, None),
            TextStem::Roberta { positions, first, kinds } => {
                checkpoint.check(&position, &[positions, width])?;
                let mut rows = checkpoint.part(&position, &[positions, width], first..first + context)?;
                let kind = whole(loader.named(names.kind, "kinds of texts")?);
                checkpoint.check(&kind, &[kinds, width])?;
                let kind = checkpoint.part(&kind, &[kinds, width], 0..1)?;
                rows.iter_mut().zip(kind.iter().cycle()).for_each(|(x, k)| *x += k);
                (rows, Some(norm(names.pre, "a norm before the blocks")?))
            }
        };
        let last = match config.text.norms {
            Norms::OfSum => None,
            _ => Some(norm(names.norm, "a norm behind the blocks")?),
        };
        let projection = (&*prefix, Some(&names.projection));
        let tower = TextTower {
            gpu: loader.gpu.clone(),
            checkpoint: checkpoint.clone(),
            tokens: whole(names.tokens),
            positions,
            pre,
            transformer: loader.transformer(
                &whole(names.blocks),
                scheme.text_block(config.text_stem),
                &config.text,
                None,
            )?,
            norm: last,
            inner: loader.before_projection((&prefix, &names.projection), form, width)?,
            projection: loader.projection(projection, form, width, config.embedding)?,
            vocabulary: config.vocabulary,
            context,
            width,
            embedding: config.embedding,
            causal: config.causal,
        };
        // The token table stays in the file; a wrong one should still be found now and not at the first text.
        checkpoint.check(&tower.tokens, &[tower.vocabulary, width])?;
        Ok(tower)
    }

    /// Whether a token sees those before it only.
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Token plus position embedding of every row (and the row for the kind of text, where there is one), `[rows, width]`,
    /// gathered on the CPU from the checkpoint's file: the table itself never goes to the GPU.
    ///
    /// # Errors
    /// An id past the vocabulary, a text longer than the context, out of memory.
    pub fn embed(&self, prompts: &Prompts) -> Result<Tensor> {
        let shape = [prompts.rows(), self.width];
        if self.gpu.rehearses() {
            return self.gpu.empty("token embeddings", &shape, DType::F32);
        }
        let mut rows = self.checkpoint.rows(&self.tokens, [self.vocabulary, self.width], &prompts.ids)?;
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
        let read = match prompts.ends.is_empty() {
            true => Read::Mean(Spans::new(&self.gpu, &prompts.spans)?),
            false => Read::Ends(Picked::new(&self.gpu, &prompts.ends, prompts.rows())?),
        };
        Ok(Packed { pattern: prompts.pattern(&self.gpu, self.causal)?, read })
    }

    /// Records inference: rows `[rows, width]` → features `[texts, embedding]`, un-normalised.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: Tensor, packed: &Packed) -> Result<Tensor> {
        let (x, _) = through(rec, self.pre.as_ref(), x)?;
        let x = self.transformer.forward(rec, x, &packed.pattern, packed.picked())?;
        let x = packed.pooled(rec, x)?;
        let (pooled, _) = through(rec, self.norm.as_ref(), x)?;
        match &self.inner {
            Some(inner) => {
                let gelu = Epilogue { activation: Some(Activation::Gelu), ..Epilogue::default() };
                let pooled = inner.forward(rec, &pooled, &gelu)?;
                self.project(rec, &pooled)
            }
            None => self.project(rec, &pooled),
        }
    }

    /// The projection's last layer.
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
        let (x, pre) = through(rec, self.pre.as_ref(), x.clone())?;
        let (x, blocks) = self.transformer.forward_saved(rec, &x, &packed.pattern, packed.picked())?;
        let x = packed.pooled(rec, x)?;
        let (pooled, last) = through(rec, self.norm.as_ref(), x)?;
        let inner = self.inner.as_ref().map(|inner| inner.forward(rec, &pooled, &Epilogue::default())).transpose()?;
        let pooled = match &inner {
            Some(inner) => activation::forward(rec, Activation::Gelu, inner)?,
            None => pooled,
        };
        let features = self.project(rec, &pooled)?;
        Ok((features, TextSaved { pre, blocks, last, inner }))
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
        let TextSaved { pre, blocks, last, inner } = saved;
        let mut dy = match &self.projection {
            Some(projection) => projection.backward(rec, dfeatures)?,
            None => dfeatures.clone(),
        };
        if let (Some(layer), Some(inner)) = (&self.inner, inner) {
            let dinner = activation::backward(rec, Activation::Gelu, &inner, &dy)?;
            dy = layer.backward(rec, &dinner)?;
        }
        let dy = through_back(rec, self.norm.as_ref(), last, dy)?;
        let dy = packed.pooled_back(rec, dy)?;
        let dy = self.transformer.backward(rec, dy, blocks, &packed.pattern)?;
        through_back(rec, self.pre.as_ref(), pre, dy)
    }

    /// Features of any number of texts, `[texts, embedding]` on the host, un-normalised. Steps are cut by rows, so memory
    /// does not grow with the number of texts.
    ///
    /// # Errors
    /// Texts without what is read of them or past the context; out of memory; a lost device.
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
    fn padding_that_nothing_sees_is_left_out_wherever_it_stands() {
        let mean = EndToken::Mean { pad: 1 };
        let p = Prompts::pack_whole(&[vec![0, 7, 1, 8, 2, 1, 1], vec![0, 2, 1]], mean).unwrap();
        assert_eq!(p.ids, [0, 7, 8, 2, 0, 2]);
        assert_eq!(p.positions, [0, 1, 2, 3, 0, 1]);
        assert_eq!((p.len(), p.rows(), p.ends()), (2, 6, &[][..]));
        let error = Prompts::pack_whole(&[vec![0, 2], vec![1, 1]], mean).unwrap_err().to_string();
        assert!(error.contains("text 1 has no token but padding"), "{error}");
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
