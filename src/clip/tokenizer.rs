//! The tokenizer: the folder's tokenizer.json or spiece.model, or CLIP's own rules where a folder ships none; with the family's
//! frame around what they give.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
    TruncationParams,
};

use super::bpe::{self, Bpe, Markers};
use super::cleanup::{self, Cleaner};
use super::config::{ClipConfig, OPEN_CLIP};
use super::frame::{Clean, Frame, Pad};
use super::sentencepiece::SentencePiece;
use super::tokenizer_file::{self, Kind};
use super::unigram::Unigram;
use crate::{Error, Result, input, text};

/// Rows of the token embedding that belong to CLIP's own rules.
const VOCABULARY: usize = 49_408;

/// The most bytes that a text may have once a file's rules have prepared it.
const LONGEST: usize = 16 << 20;

/// The files that a model folder's tokenizer may be read from. As part of the model's identity, `model` hashes them.
const FILES: [&str; 2] = ["tokenizer.json", "spiece.model"];

/// Files of tokenizers that are not read, each with the one that its repository mostly has beside it.
const OTHERS: [&str; 5] = ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.txt", "vocab.json"];

/// Runs code that panics at a file which contradicts itself.
fn guarded<T>(path: &Path, run: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(run))
        .map_err(|_| Error::config(path, "not a valid tokenizer: its rules contradict themselves; fetch it again"))
}

/// A tokenizer.json with this kind of model.
type Json<M> = TokenizerImpl<M, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// What a tokenizer.json says, whatever its model.
trait Split {
    fn split(&self, text: &str) -> tokenizers::Result<Vec<u32>>;
    fn id(&self, token: &str) -> Option<u32>;
    /// Leaves markers, length and padding to the frame, and has letters made small first, where wanted.
    fn prepare(&mut self, letters: bool) -> tokenizers::Result<()>;
}

impl<M: tokenizers::Model> Split for Json<M> {
    fn split(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        Ok(self.encode(text, false)?.get_ids().to_vec())
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.token_to_id(token)
    }

    fn prepare(&mut self, letters: bool) -> tokenizers::Result<()> {
        self.with_padding(None);
        self.with_truncation(None::<TruncationParams>)?;
        if letters {
            let own = self.get_normalizer().cloned();
            let rules = std::iter::once(Lowercase.into()).chain(own).collect();
            self.with_normalizer(Some(NormalizerWrapper::Sequence(Sequence::new(rules))));
        }
        Ok(())
    }
}

/// How a text is split.
enum Rules {
    /// As a tokenizer.json says.
    File {
        /// The rules.
        inner: Box<dyn Split + Send + Sync>,
        /// The file.
        path: PathBuf,
        /// How many times as long a text may become.
        growth: usize,
    },
    /// As transformers' `SiglipTokenizer` does by a spiece.model.
    Pieces {
        /// What the file says.
        inner: Box<SentencePiece>,
        /// The file.
        path: PathBuf,
    },
    /// As OpenAI's and open_clip's code does.
    BuiltIn(Box<Bpe>),
}

/// Turns texts into token ids.
pub struct Tokenizer {
    rules: Rules,
    clean: Clean,
    /// Cleans texts for rules that do not.
    cleaner: Option<Cleaner>,
    start: Option<u32>,
    end: Option<u32>,
    pad: Option<u32>,
    erased: Option<u32>,
    context: usize,
}

impl Tokenizer {
    /// The tokenizer of a model folder. With SigLIP's frame this is its spiece.model, which transformers reads, else its
    /// tokenizer.json, else CLIP's own rules if the vocabulary and the markers are theirs.
    ///
    /// # Errors
    /// [`Error::Config`] when the file is malformed or lacks the frame's markers, or is missing and cannot be done without.
    pub fn of_folder(folder: &Path, config: &ClipConfig) -> Result<Tokenizer> {
        let [json, pieces] = FILES.map(|name| folder.join(name));
        if config.frame.clean == Clean::Siglip && input::exists(&pieces) {
            return Tokenizer::open_pieces(&pieces, &config.frame, config.context);
        }
        if input::exists(&json) || config.vocabulary != VOCABULARY || !config.frame.is_clips() {
            return Tokenizer::open(&json, &config.frame, config.context);
        }
        let markers = if input::exists(&folder.join(OPEN_CLIP)) { Markers::OpenClip } else { Markers::OpenAi };
        Tokenizer::built_in(markers, &config.frame, config.context)
    }

    /// CLIP's own rules; `context` is the longest prompt in tokens, markers included. Within texts the markers are spelled as the
    /// family does, in the frame as OpenAI does.
    ///
    /// # Errors
    /// [`Error::Config`] for a frame with other markers; [`Error::Invalid`] when the rules built in are damaged, which the tests
    /// exclude.
    pub fn built_in(markers: Markers, frame: &Frame, context: usize) -> Result<Tokenizer> {
        let rules = Rules::BuiltIn(Box::new(Bpe::new(markers)?));
        Tokenizer::framing(rules, Path::new("CLIP's own tokenizer"), frame, context)
    }

    /// Reads a tokenizer.json; `context` is the longest prompt in tokens, markers included.
    ///
    /// # Errors
    /// [`Error::Config`] when the file is missing, malformed, or lacks the frame's markers.
    pub fn open(path: &Path, frame: &Frame, context: usize) -> Result<Tokenizer> {
        if !input::exists(path) {
            return Err(Error::config(path, missing(path)));
        }
        let text = input::read(path, input::limit::TOKENIZER)?;
        let stated = tokenizer_file::look_over(path, &text)?;
        let letters = frame.clean == Clean::Letters;
        // Everything but the model is the crate's; see `unigram` for why that is not.
        let inner = guarded(path, || -> tokenizers::Result<Box<dyn Split + Send + Sync>> {
            let mut inner: Box<dyn Split + Send + Sync> = match stated.kind {
                Kind::Unigram => Box::new(Json::<Unigram>::from_bytes(&text)?),
                // Read as what it is, without the tree of values that the crate makes where it must find that out.
                Kind::Bpe => Box::new(Json::<BPE>::from_bytes(&text)?),
                Kind::Other => Box::new(Json::<ModelWrapper>::from_bytes(&text)?),
            };
            inner.prepare(letters)?;
            Ok(inner)
        })?;
        let inner = inner.map_err(|e| Error::config(path, format!("not a valid tokenizer: {e}")))?;
        stated.check(path, |token| inner.id(token))?;
        let rules = Rules::File { inner, path: path.to_path_buf(), growth: stated.growth };
        Tokenizer::framing(rules, path, frame, context)
    }

    /// Reads a spiece.model, and takes it as transformers' `SiglipTokenizer` does.
    ///
    /// # Errors
    /// As [`Tokenizer::open`]; for a model of another kind than SigLIP's.
    pub fn open_pieces(path: &Path, frame: &Frame, context: usize) -> Result<Tokenizer> {
        let file = input::read(path, input::limit::TOKENIZER)?;
        let inner = SentencePiece::parse(&file)
            .map_err(|why| Error::config(path, format!("not a SentencePiece model that can be used: {why}")))?;
        let rules = Rules::Pieces { inner: Box::new(inner), path: path.to_path_buf() };
        Tokenizer::framing(rules, path, frame, context)
    }

    /// The rules of the file at `path` with a frame's markers, by the ids that they have there.
    fn framing(rules: Rules, path: &Path, frame: &Frame, context: usize) -> Result<Tokenizer> {
        let id = |token: &String| {
            let id = match &rules {
                Rules::File { inner, .. } => inner.id(token),
                Rules::Pieces { inner, .. } => inner.id(token),
                Rules::BuiltIn(_) => {
                    let mut own = Markers::OpenAi.spellings().into_iter().zip([bpe::START, bpe::END]);
                    own.find(|(spelling, _)| *spelling == token.as_str()).map(|(_, id)| id)
                }
            };
            id.ok_or_else(|| Error::config(path, format!("the token '{token}' is missing")))
        };
        let marker = |token: &Option<String>| token.as_ref().map(id).transpose();
        let (start, end, erased) = (marker(&frame.start)?, marker(&frame.end)?, marker(&frame.erased)?);
        let pad = match &frame.pad {
            Some(Pad::Token(token)) => Some(id(token)?),
            Some(Pad::Id(id)) => Some(*id),
            None => None,
        };
        let clean = frame.clean;
        // CLIP's own rules have a cleaner of theirs.
        let cleaner = matches!(clean, Clean::Whitespace | Clean::Lower | Clean::Canonicalize)
            && !matches!(rules, Rules::BuiltIn(_));
        let cleaner = cleaner.then(Cleaner::new).transpose()?;
        Ok(Tokenizer { rules, clean, cleaner, start, end, pad, erased, context })
    }

    /// Where the rules come from, in a few words.
    pub fn describe(&self) -> &'static str {
        match self.rules {
            Rules::File { .. } => "tokenizer.json",
            Rules::Pieces { .. } => "spiece.model",
            Rules::BuiltIn(_) => "CLIP's own, built in",
        }
    }

    /// The ids of a text, without markers.
    ///
    /// # Errors
    /// [`Error::Config`] when the tokenizer's rules fail on the text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let bound = |path: &Path, text: &str, growth: usize| {
            let longest = LONGEST / growth;
            if text.len() > longest {
                let reason = format!("a text of {} bytes is too long for these rules: give {longest}", text.len());
                return Err(Error::config(path, reason));
            }
            Ok(())
        };
        let begin = || text.chars().take(60).collect::<String>();
        let fails = |path: &Path, why: String| Error::config(path, format!("cannot tokenize '{}': {why}", begin()));
        match &self.rules {
            Rules::BuiltIn(bpe) => Ok(bpe.ids_cleaned(text, self.clean)),
            Rules::Pieces { inner, path } => {
                bound(path, text, inner.growth())?;
                inner.siglip_ids(text).map_err(|why| fails(path, why))
            }
            Rules::File { inner, path, growth } => {
                bound(path, text, *growth)?;
                let cleaned = match &self.cleaner {
                    Some(cleaner) => Some(cleaner.cleaned(text, self.clean)),
                    None => (self.clean == Clean::Siglip).then(|| cleanup::siglip(text)),
                };
                let text = cleaned.as_deref().unwrap_or(text);
                // An entity may stand for more than it is long.
                bound(path, text, *growth)?;
                guarded(path, || inner.split(text))?.map_err(|e| fails(path, e.to_string()))
            }
        }
    }

    /// The most ids of a text that fit between the markers.
    pub fn room(&self) -> usize {
        self.context.saturating_sub(usize::from(self.start.is_some()) + usize::from(self.end.is_some()))
    }

    /// The ids of a text in the family's frame. A text too long for the context loses its tail, with a warning.
    ///
    /// # Errors
    /// As [`Tokenizer::ids`].
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.ids(text)?;
        let room = self.room();
        if ids.len() > room {
            tracing::warn!(
                "'{}' is {} tokens long, {room} fit: its end is cut off",
                text::cut(text, text::NAME),
                ids.len()
            );
            ids.truncate(room);
        }
        Ok(self.framed(&ids))
    }

    /// Ids between the start and the end marker, filled up where the family does so.
    pub(crate) fn framed(&self, ids: &[u32]) -> Vec<u32> {
        let mut prompt = Vec::with_capacity(self.context.max(ids.len() + 2));
        prompt.extend(self.start);
        prompt.extend_from_slice(ids);
        prompt.extend(self.end);
        if let Some(erased) = self.erased {
            prompt.iter_mut().filter(|id| **id == erased).for_each(|id| *id = 0);
        }
        if let Some(pad) = self.pad
            && prompt.len() < self.context
        {
            prompt.resize(self.context, pad);
        }
        prompt
    }
}

/// What is said where there is no tokenizer.json.
fn missing(path: &Path) -> String {
    let beside = OTHERS.iter().find(|name| input::exists(&path.with_file_name(name)));
    let have = beside.map_or(String::new(), |name| format!(", and {name} cannot be used in its place"));
    format!(
        "no tokenizer here{have}; fetch the tokenizer.json of the model's repository, or have transformers write one: \
         AutoTokenizer.from_pretrained(model).save_pretrained(folder)"
    )
}
