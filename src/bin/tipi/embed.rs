//! `tipi embed`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tipi::Error;
use tipi::clip::Clip;

use crate::common::{self, GpuArgs, PictureArgs};
use crate::ui;

/// What to embed.
#[derive(Subcommand)]
pub enum Args {
    /// Pictures: files, folders, or `pixel_values` [n,3,R,R] in a .safetensors file.
    Image(Common),
    /// Texts: as arguments, the lines of a text file or of `-` (stdin), or `input_ids` [n,T] in a .safetensors file.
    Text(Common),
}

/// Options.
#[derive(clap::Args)]
pub struct Common {
    /// Model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File to write: `features` [n,D] f32, un-normalised, in input order.
    #[arg(long, value_name = "F.safetensors")]
    out: PathBuf,
    /// What to embed.
    #[arg(required = true)]
    inputs: Vec<String>,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: GpuArgs,
}

/// Embeds.
pub fn run(args: &Args) -> Result<()> {
    let (Args::Image(common) | Args::Text(common)) = args;
    tipi::check_writable(&common.out)?;
    let gpu = common.gpu.open()?;
    let clip = Clip::load(&gpu, &common.model)?;
    common::announce(&gpu);
    let (features, names) = match args {
        Args::Image(_) => images(common, &clip)?,
        Args::Text(_) => texts(common, &clip)?,
    };
    let d = clip.config.embedding;
    let n = features.len() / d;
    let view = TensorView::new(Dtype::F32, vec![n, d], bytemuck::cast_slice(&features))?;
    let metadata = HashMap::from([("inputs".to_string(), serde_json::to_string(&names)?)]);
    let bytes = safetensors::serialize([("features", view)], Some(metadata))?;
    tipi::write_atomic(&common.out, &bytes)?;
    eprintln!("wrote {} features of width {d} to {}", n, common.out.display());
    common::finish(&gpu);
    Ok(())
}

fn is_safetensors(input: &str) -> bool {
    Path::new(input).extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

fn images(args: &Common, clip: &Clip) -> Result<(Vec<f32>, Vec<String>)> {
    let mut features = Vec::new();
    let mut names = Vec::new();
    let mut pending: Vec<PathBuf> = Vec::new();
    let flush = |pending: &mut Vec<PathBuf>, features: &mut Vec<f32>, names: &mut Vec<String>| -> Result<()> {
        if !pending.is_empty() {
            let pictures = common::encode_paths(clip, pending, &args.pictures)?;
            features.extend(pictures.features);
            names.extend(pictures.paths.iter().map(|p| p.display().to_string()));
            pending.clear();
        }
        Ok(())
    };
    for input in &args.inputs {
        if !is_safetensors(input) {
            pending.push(input.into());
            continue;
        }
        flush(&mut pending, &mut features, &mut names)?;
        let size = clip.preprocess.size;
        let (shape, pixels) = read_pixels(Path::new(input), size)?;
        let mut encoder = clip.image_encoder(args.pictures.batch(shape))?;
        let bar = ui::bar(shape, "encoding pixels");
        features.extend(encoder.encode(&pixels, &mut |n| bar.inc(n as u64))?);
        bar.finish_and_clear();
        names.extend((0..shape).map(|i| format!("{input}#{i}")));
    }
    flush(&mut pending, &mut features, &mut names)?;
    Ok((features, names))
}

fn texts(args: &Common, clip: &Clip) -> Result<(Vec<f32>, Vec<String>)> {
    let mut ids = Vec::new();
    let mut names = Vec::new();
    for input in &args.inputs {
        let path = Path::new(input);
        if is_safetensors(input) {
            let rows = read_ids(path)?;
            names.extend((0..rows.len()).map(|i| format!("{input}#{i}")));
            for (i, row) in rows.iter().enumerate() {
                if clip.config.end.position(row).is_none() {
                    return Err(Error::data(path, format!("row {i} of input_ids has no end token")).into());
                }
            }
            ids.extend(rows);
            continue;
        }
        let lines: Vec<String> = if input == "-" {
            std::io::read_to_string(std::io::stdin())?.lines().map(str::to_string).collect()
        } else if path.is_file() || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("txt")) {
            let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
            text.lines().map(str::to_string).collect()
        } else {
            vec![input.clone()]
        };
        for line in lines {
            ids.push(clip.tokenizer()?.prompt(&line)?);
            names.push(line);
        }
    }
    if ids.is_empty() {
        return Err(Error::Invalid("there is no text among the inputs".into()).into());
    }
    Ok((clip.text.encode(&ids, clip.config.end)?, names))
}

/// A tensor of a safetensors file: its shape, dtype and bytes.
fn read_tensor(path: &Path, name: &str) -> Result<(Vec<usize>, Dtype, Vec<u8>), Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::Safetensors {
        path: path.into(),
        reason: format!("{e}; the file is truncated or damaged"),
    })?;
    let view = file.tensor(name).map_err(|_| Error::MissingTensor { path: path.into(), tensor: name.into() })?;
    Ok((view.shape().to_vec(), view.dtype(), view.data().to_vec()))
}

fn read_pixels(path: &Path, size: usize) -> Result<(usize, Vec<f32>), Error> {
    let (shape, dtype, bytes) = read_tensor(path, "pixel_values")?;
    match shape[..] {
        [n, 3, h, w] if n > 0 && h == size && w == size && dtype == Dtype::F32 => {
            Ok((n, bytemuck::pod_collect_to_vec(&bytes)))
        }
        _ => Err(Error::TensorForm {
            path: path.into(),
            tensor: "pixel_values".into(),
            expected: format!("[n, 3, {size}, {size}] of F32"),
            found: format!("{shape:?} of {dtype:?}"),
        }),
    }
}

fn read_ids(path: &Path) -> Result<Vec<Vec<u32>>, Error> {
    let (shape, dtype, bytes) = read_tensor(path, "input_ids")?;
    let form = || Error::TensorForm {
        path: path.into(),
        tensor: "input_ids".into(),
        expected: "[n, T] of non-negative integers".into(),
        found: format!("{shape:?} of {dtype:?}"),
    };
    let wide: Vec<i64> = match dtype {
        Dtype::I64 | Dtype::U64 => bytemuck::pod_collect_to_vec(&bytes),
        Dtype::I32 => bytemuck::pod_collect_to_vec::<u8, i32>(&bytes).into_iter().map(i64::from).collect(),
        Dtype::U32 => bytemuck::pod_collect_to_vec::<u8, u32>(&bytes).into_iter().map(i64::from).collect(),
        Dtype::I16 => bytemuck::pod_collect_to_vec::<u8, i16>(&bytes).into_iter().map(i64::from).collect(),
        Dtype::U16 => bytemuck::pod_collect_to_vec::<u8, u16>(&bytes).into_iter().map(i64::from).collect(),
        Dtype::U8 => bytes.iter().map(|b| i64::from(*b)).collect(),
        _ => return Err(form()),
    };
    if shape.len() != 2 || wide.is_empty() {
        return Err(form());
    }
    let ids = wide.iter().map(|v| u32::try_from(*v).map_err(|_| form())).collect::<Result<Vec<u32>, Error>>()?;
    Ok(ids.chunks(shape[1]).map(<[u32]>::to_vec).collect())
}
