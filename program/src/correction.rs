//! The correction that an evaluation trains and keeps.

use std::path::Path;

use anyhow::Result;
use tipi::Error;
use tipi::low_level::adapt::adapter_file::{self, Adapter, Description, File, Meta};
use tipi::low_level::adapt::overlap::{self, Correction};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::Item;

use crate::bars::Bars;
use crate::common;

/// Reads the correction from the file `kept`, if that exists and has these settings and classes. If not, trains one on generic
/// pictures of the classes `names` and writes it there. With `strict` a picture that cannot be decoded is an error.
pub fn kept(
    clip: &Clip,
    (pictures, names): (&[Item], &[String]),
    config: &overlap::Config,
    (kept, strict): (&Path, bool),
    bars: &mut Bars,
) -> Result<Correction> {
    let description = Description::of_correction(config)?;
    if kept.is_file() {
        let file = File::open(kept)?;
        if file.meta.method != description || file.meta.classes != names {
            let reason = "this correction has other settings, or left out other classes: use another --out, or give the correction with --correction";
            return Err(Error::data(kept, reason).into());
        }
        return common::correction(&file, clip);
    }
    let pictures = common::sound_pictures(pictures, strict)?;
    let (correction, _) = overlap::learn(clip, (&pictures, names), config, None, bars)?;
    let meta = Meta::new(clip, names, description, None, config.seed)?;
    let adapter = Adapter::Correction(correction);
    adapter_file::save(kept, clip, &meta, &adapter)?;
    Ok(adapter.into_correction()?)
}
