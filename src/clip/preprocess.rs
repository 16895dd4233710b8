//! How a model's pictures become pixels: as its authors prepared them, byte for byte.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::json::{parse, typed};
use crate::data::{Depth, Filter, Normalize, Rgb, resize, resize_center_crop_with, resize_longest_pad, to_pixels};
use crate::{Error, Result, input};

/// How a picture comes to the size of the model's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side becomes this long, and the middle is cut out: CLIP's own way.
    Shortest(usize),
    /// Both sides become as long as the model wants them, whatever the picture's aspect.
    Squash,
    /// The longer side becomes as long as the model wants it; the rest is filled with this grey.
    Longest {
        /// Of all three channels.
        fill: u8,
    },
}

/// How pictures become pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Side of the prepared picture.
    pub size: usize,
    /// How it is resized.
    pub resize: Resize,
    /// How samples between pixels are made up.
    pub filter: Filter,
    /// Mean and standard deviation per channel.
    pub normalize: Normalize,
    /// What becomes of grey of 16 bits in files. No model says; it is the user's to choose.
    pub depth: Depth,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HfSize {
    Edge(usize),
    Shortest { shortest_edge: usize },
    Box { height: usize, width: usize },
}

impl HfSize {
    /// The side of a square, and whether it is meant for the shorter edge only.
    fn side(&self) -> Option<(usize, bool)> {
        match self {
            HfSize::Edge(side) | HfSize::Shortest { shortest_edge: side } => Some((*side, true)),
            HfSize::Box { height, width } => (height == width).then_some((*height, false)),
        }
    }
}

/// The files that say how pictures are prepared. As part of the model's identity, `model` hashes them.
const FILES: [&str; 2] = ["processor_config.json", "preprocessor_config.json"];

#[derive(Deserialize)]
struct Hf {
    /// The class; older files have it under the second name.
    #[serde(alias = "feature_extractor_type")]
    image_processor_type: Option<String>,
    /// Only where pictures keep their aspect and give different numbers of patches.
    max_num_patches: Option<Value>,
    size: Option<HfSize>,
    crop_size: Option<HfSize>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    rescale_factor: Option<f64>,
    resample: Option<u32>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

impl Preprocess {
    /// OpenAI's preparation, for pictures of `size`.
    pub fn openai(size: usize) -> Preprocess {
        Preprocess {
            size,
            resize: Resize::Shortest(size),
            filter: Filter::Bicubic,
            normalize: Normalize::CLIP,
            depth: Depth::default(),
        }
    }

    /// Reads what a folder's processor_config.json says of pictures, where transformers 5 writes it, else its
    /// preprocessor_config.json; without either, OpenAI's preparation at the model's image size. The crop is torchvision's, as in
    /// OpenAI's code and transformers' present processors: half the margin, halves to the even number. Sizes change as in
    /// Pillow: transformers 5 prefers torchvision, whose samples are rounded elsewhere and differ from Pillow's by 1 of 255 in
    /// three of a thousand (bicubic) or fewer (bilinear), and hardly ever by 2.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`] for a preparation that tipi does not do, or a size that contradicts the model's.
    pub fn of_folder(folder: &Path, image_size: usize) -> Result<Preprocess> {
        let Some((path, hf)) = described(folder)? else { return Ok(Preprocess::openai(image_size)) };
        let kind = hf.image_processor_type.as_deref().unwrap_or_default();
        if hf.max_num_patches.is_some() || kind.starts_with("Siglip2") {
            return Err(Error::config(
                &path,
                "it cuts pictures of any aspect into patches (NaFlex), and tipi has models of one size only; those of SigLIP 2 \
                 are called by theirs, as siglip2-base-patch16-256",
            ));
        }
        // What a file leaves out is as in its class.
        let siglip = kind.starts_with("Siglip");
        let filter = match hf.resample {
            None | Some(3) => Filter::Bicubic,
            Some(2) => Filter::Bilinear,
            Some(_) => return Err(Error::config(&path, "resample must be 3 (bicubic) or 2 (bilinear)")),
        };
        let flags = [("do_resize", hf.do_resize), ("do_rescale", hf.do_rescale), ("do_normalize", hf.do_normalize)];
        if let Some((what, _)) = flags.iter().find(|(_, flag)| *flag == Some(false)) {
            return Err(Error::config(&path, format!("{what} must be true; tipi prepares pictures as CLIP does")));
        }
        if hf.rescale_factor.is_some_and(|f| (f * 255.0 - 1.0).abs() > 1e-6) {
            return Err(Error::config(&path, "rescale_factor must be 1/255"));
        }
        let side = |size: &Option<HfSize>, what: &str| match size {
            Some(size) => size.side().map(Some).ok_or_else(|| Error::config(&path, format!("{what} is not a square"))),
            None => Ok(None),
        };
        let (size, crop) = (side(&hf.size, "size")?, side(&hf.crop_size, "crop_size")?);
        let (edge, shortest) = size.unwrap_or(if siglip { (224, false) } else { (image_size, true) });
        let crops = hf.do_center_crop.unwrap_or(!siglip);
        // A box is squashed to; cutting out a square of the same side then changes nothing.
        let result = if crops { crop.map_or(image_size, |(side, _)| side) } else { edge };
        if result != image_size || (shortest && !crops) || (!shortest && edge != image_size) || edge == 0 {
            let has = |size: Option<(usize, bool)>| size.map_or("nothing".into(), |(side, _)| side.to_string());
            return Err(Error::config(
                &path,
                format!(
                    "size {} and crop_size {} (do_center_crop {crops}) do not give pictures of the model's image size, \
                     {image_size}×{image_size}",
                    has(size),
                    has(crop)
                ),
            ));
        }
        let normal = if siglip { Normalize::HALF } else { Normalize::CLIP };
        let normalize =
            Normalize { mean: hf.image_mean.unwrap_or(normal.mean), std: hf.image_std.unwrap_or(normal.std) };
        let resize = if shortest { Resize::Shortest(edge) } else { Resize::Squash };
        Preprocess { size: image_size, resize, filter, normalize, depth: Depth::default() }.checked(&path)
    }

    /// The preparation, if it can be carried out.
    pub(super) fn checked(self, path: &Path) -> Result<Preprocess> {
        let Normalize { mean, std } = self.normalize;
        if std.iter().any(|s| !s.is_finite() || *s <= 0.0) || mean.iter().any(|m| !m.is_finite()) {
            return Err(Error::config(
                path,
                "the standard deviations of the channels must be positive, the means finite",
            ));
        }
        Ok(self)
    }

    /// The picture as the model sees it, before normalisation.
    pub fn prepare(&self, picture: &Rgb) -> Rgb {
        match self.resize {
            Resize::Shortest(edge) => resize_center_crop_with(picture, edge, self.size, self.filter),
            Resize::Squash => resize(picture, self.size, self.size, self.filter),
            Resize::Longest { fill } => resize_longest_pad(picture, self.size, fill, self.filter),
        }
    }

    /// Pixels `[3, size, size]` of a prepared picture.
    pub fn normalized(&self, prepared: &Rgb) -> Vec<f32> {
        to_pixels(prepared, &self.normalize)
    }

    /// What is done, in one line.
    pub fn describe(&self) -> String {
        let filter = match self.filter {
            Filter::Bicubic => "bicubic",
            Filter::Bilinear => "bilinear",
        };
        let size = self.size;
        let resize = match self.resize {
            Resize::Shortest(edge) => format!("shorter side to {edge}, {filter}, centre {size}×{size}"),
            Resize::Squash => format!("squashed to {size}×{size}, {filter}"),
            Resize::Longest { fill } => format!("longer side to {size}, {filter}, filled up with grey {fill}"),
        };
        let Normalize { mean, std } = self.normalize;
        let list = |values: [f32; 3]| values.map(|v| format!("{v:.4}")).join(", ");
        format!("{resize}; mean {}; standard deviation {}", list(mean), list(std))
    }
}

/// The file that says how pictures are prepared, and what it says. As in transformers, what processor_config.json has counts
/// before preprocessor_config.json.
fn described(folder: &Path) -> Result<Option<(PathBuf, Hf)>> {
    let [processor, own] = FILES.map(|name| folder.join(name));
    if input::exists(&processor) {
        let json: Value = parse(&processor)?;
        if let Some(part) = json.get("image_processor").filter(|part| !part.is_null()) {
            let hf = typed(&processor, part.clone())?;
            return Ok(Some((processor, hf)));
        }
    }
    if input::exists(&own) { parse(&own).map(|hf| Some((own, hf))) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::{Preprocess, Resize};
    use crate::data::{Filter, Normalize};

    fn read(json: &str) -> crate::Result<Preprocess> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("preprocessor_config.json"), json).unwrap();
        Preprocess::of_folder(folder.path(), 224)
    }

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let clip = Preprocess::openai(224);
        let all = [
            "{}",
            r#"{"size": 224, "crop_size": 224, "resample": 3}"#,
            r#"{"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": true}"#,
        ];
        for json in all {
            assert_eq!(read(json).unwrap(), clip, "{json}");
        }
        let larger = read(r#"{"size": {"shortest_edge": 256}, "crop_size": 224, "resample": 2}"#).unwrap();
        assert_eq!((larger.resize, larger.filter, larger.size), (Resize::Shortest(256), Filter::Bilinear, 224));
        for crops in [true, false] {
            let json = format!(r#"{{"size": {{"height": 224, "width": 224}}, "do_center_crop": {crops}}}"#);
            assert_eq!(read(&json).unwrap().resize, Resize::Squash, "{json}");
        }
        let half = read(r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#).unwrap();
        assert_eq!(half.normalize, Normalize::HALF);
    }

    #[test]
    fn what_a_siglip_leaves_out_is_its_classes() {
        let kind = r#"{"image_processor_type": "SiglipImageProcessorFast""#;
        let siglip = read(&format!("{kind}}}")).unwrap();
        assert_eq!(
            (siglip.resize, siglip.filter, siglip.normalize),
            (Resize::Squash, Filter::Bicubic, Normalize::HALF)
        );
        let whole =
            format!(r#"{kind}, "size": {{"height": 224, "width": 224}}, "resample": 2, "image_mean": [0, 0, 0]}}"#);
        let whole = read(&whole).unwrap();
        assert_eq!((whole.resize, whole.filter, whole.normalize.mean), (Resize::Squash, Filter::Bilinear, [0.0; 3]));
        for naflex in [r#"{"image_processor_type": "Siglip2ImageProcessor"}"#, r#"{"max_num_patches": 256}"#] {
            let error = read(naflex).unwrap_err().to_string();
            assert!(error.contains("NaFlex") && error.contains("preprocessor_config.json"), "{error}");
        }
    }

    #[test]
    fn what_processors_say_of_pictures_counts_first() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, json: &str| std::fs::write(folder.path().join(name), json).unwrap();
        let mean = || Preprocess::of_folder(folder.path(), 224).map(|found| found.normalize.mean[0]);
        write("processor_config.json", r#"{"processor_class": "CLIPProcessor"}"#);
        assert_eq!(mean().unwrap(), Normalize::CLIP.mean[0]);
        write("preprocessor_config.json", r#"{"image_mean": [0.25, 0, 0]}"#);
        assert_eq!(mean().unwrap(), 0.25);
        write("processor_config.json", r#"{"image_processor": {"image_mean": [0.125, 0, 0]}, "tokenizer": 3}"#);
        assert_eq!(mean().unwrap(), 0.125);
        write("processor_config.json", r#"{"image_processor": {"resample": 1}}"#);
        assert!(mean().unwrap_err().to_string().contains("processor_config.json"));
    }

    #[test]
    fn what_does_not_give_the_models_size_is_refused() {
        for json in [
            r#"{"size": 256, "crop_size": 256}"#,
            r#"{"size": {"shortest_edge": 224}, "do_center_crop": false}"#,
            r#"{"size": {"height": 256, "width": 256}}"#,
            r#"{"size": {"height": 224, "width": 256}}"#,
            r#"{"size": 0}"#,
            r#"{"resample": 1}"#,
            r#"{"rescale_factor": 1.0}"#,
            r#"{"do_normalize": false}"#,
            r#"{"image_std": [0.5, 0.0, 0.5]}"#,
            "[",
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains("preprocessor_config.json"), "{json}: {error}");
        }
    }
}
