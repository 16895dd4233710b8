//! What can be said of a run before anything is computed.

use sha2::{Digest, Sha256};

use super::Checked;
use crate::adapt::zero_shot::prompts;
use crate::clip::Clip;
use crate::data::{Dataset, Item, too_few};
use crate::eval::{Corrections, FORMAT, Protocol, Settings};
use crate::{Error, Result, hex, text};

/// Looks for what would end a run later: options that contradict each other or the dataset, and missing files. Asks the system
/// about every picture, so a large dataset takes some seconds.
///
/// # Errors
/// [`Error::Invalid`] and [`Error::Data`], with what would be right.
pub fn check<'a>(dataset: &'a Dataset, protocol: &'a Protocol, corrected: bool) -> Result<Checked<'a>> {
    protocol.check()?;
    needs_correction(protocol, corrected)?;
    protocol.setup.how.grid(&dataset.name, true)?;
    prompts(&dataset.classes, &dataset.templates)?;
    if dataset.test.is_empty() {
        return Err(Error::data(&dataset.root, "there are no test pictures: nothing could be measured"));
    }
    if dataset.train.is_empty()
        && let Some(method) = protocol.methods.iter().find(|m| m.info().needs.support)
    {
        let reason = format!("there are no pictures to learn from, which {method} needs");
        return Err(Error::data(&dataset.root, reason));
    }
    if protocol.strict
        && let Some(text) = protocol.shots.iter().find_map(|shots| too_few(&dataset.train, &dataset.classes, *shots))
    {
        return Err(Error::data(&dataset.root, format!("{text}: ask for fewer shots")));
    }
    let missing = dataset.missing();
    if let Some(first) = missing.first() {
        let count = missing.len();
        return Err(Error::data(
            &first.path,
            format!(
                "no such file; {} that the split of {} names {} missing: unpack the pictures again (`tipi data check` \
                 lists them)",
                text::count(count, "file", "files"),
                dataset.title,
                if count == 1 { "is" } else { "are" }
            ),
        ));
    }
    Ok(Checked { dataset, protocol })
}

/// Fails for ++ methods, and for an ablation that compares corrections, without a correction.
pub(super) fn needs_correction(protocol: &Protocol, corrected: bool) -> Result<()> {
    if let Some(ablation) = protocol.ablation.filter(|ablation| ablation.compares_corrections()) {
        return match corrected {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "the ablation {} compares overlap corrections: give some (`tipi fit overlap` makes them), or generic pictures to \
                 train them on",
                ablation.name
            ))),
        };
    }
    match protocol.methods.iter().find(|m| m.info().needs.correction) {
        Some(method) if !corrected => Err(Error::invalid(format!(
            "{method} needs an overlap correction: give one (`tipi fit overlap` makes it), or generic pictures to train one on"
        ))),
        _ => Ok(()),
    }
}

/// Fails for methods that cannot be on this model.
pub(super) fn needs_causal(protocol: &Protocol, clip: &Clip) -> Result<()> {
    match protocol.methods.iter().find(|m| m.info().needs.causal) {
        Some(method) if !clip.config.causal => Err(Error::invalid(format!(
            "{method} needs a text tower with causal attention, which this model has not: leave it out of the methods"
        ))),
        _ => Ok(()),
    }
}

/// What the results of a dataset have in common.
pub(super) fn settings(
    clip: &Clip,
    dataset: &Dataset,
    protocol: &Protocol,
    corrections: &Corrections<'_>,
    precision: &str,
) -> Result<Settings> {
    let mut hasher = Sha256::new();
    let add = |hasher: &mut Sha256, items: &[Item]| {
        for item in items {
            let path = item.path.strip_prefix(&dataset.root).unwrap_or(&item.path);
            hasher.update(path.to_string_lossy().as_bytes());
            hasher.update((item.label as u64).to_le_bytes());
        }
    };
    for (part, items) in [("train", &dataset.train), ("val", &dataset.val), ("test", &dataset.test)] {
        hasher.update(part);
        add(&mut hasher, items);
    }
    let foreign = (!protocol.foreign.is_empty()).then(|| {
        let mut hasher = Sha256::new();
        add(&mut hasher, &protocol.foreign);
        hex(&hasher.finalize())
    });
    for class in &dataset.classes {
        hasher.update(class);
        hasher.update([0]);
    }
    let (correction, compared) = corrections.digests(protocol);
    Ok(Settings {
        format: FORMAT.into(),
        dataset: dataset.name.clone(),
        pictures: hex(&hasher.finalize()),
        classes: dataset.classes.len(),
        model: clip.id()?.sha256.clone(),
        precision: precision.into(),
        depth: clip.preprocess.depth,
        correction,
        compared,
        templates: dataset.templates.clone(),
        words: dataset.words.clone(),
        setup: protocol.setup.clone(),
        foreign,
    })
}
