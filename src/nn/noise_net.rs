//! The network that makes noise of pixels (PiNI's ablation, arXiv 2412.10817): convolutions 3×3 with batch norm, four residual
//! stages, and two heads, means and spreads of the noise. All of it trains.
//!
//! x₀ = relu(bn(conv x)); stage: x ← relu(bn(conv(relu(bn(conv x)))) + shortcut x), the shortcut being x itself, or a batch norm of a
//! 1×1 convolution where the channels change; h = [conv_mean x, conv_variance x]. No convolution has a bias, and all leave pictures
//! their size.
//!
//! Layers of many large pictures are more than one binding holds, so a layer is several tensors, of some pictures each.

use std::ops::Range;

use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::batchnorm::{self, Extra};
use crate::kernels::conv::{self, Pictures};
use crate::kernels::slices;
use crate::{Error, Result};

/// Colours of a picture.
const COLOURS: usize = 3;
/// Side of all convolutions but those of shortcuts.
const SIDE: usize = 3;
/// Bytes of a layer's tensor: no binding of WebGPU's defaults is larger.
const LAYER: u64 = 128 << 20;

/// A layer: `[pictures, size, size, channels]`, some pictures in each.
type Maps = Vec<Tensor>;

/// Reads values by name and shape.
pub type Values<'v> = dyn FnMut(&str, &[usize]) -> Result<Vec<f32>> + 'v;

/// Values by name, with their shapes.
pub type Named = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Where a convolution stands, and how large it is.
struct Place {
    conv: String,
    norm: Option<String>,
    output: usize,
    input: usize,
    side: usize,
}

impl Place {
    fn new(conv: impl Into<String>, norm: impl Into<String>, (input, output): (usize, usize), side: usize) -> Place {
        Place { conv: conv.into(), norm: Some(norm.into()), output, input, side }
    }

    fn head(name: &str, input: usize) -> Place {
        Place { conv: name.into(), norm: None, output: COLOURS, input, side: SIDE }
    }

    fn weight(&self) -> (String, Vec<usize>) {
        (format!("{}.weight", self.conv), vec![self.output, self.input, self.side, self.side])
    }

    /// Name and shape of each parameter, and then of the running statistics.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let norm = |part: &str| self.norm.as_ref().map(|norm| (format!("{norm}.{part}"), vec![self.output]));
        std::iter::once(self.weight()).chain(norm("weight")).chain(norm("bias")).collect()
    }

    fn running(&self) -> Option<[(String, Vec<usize>); 2]> {
        let norm = self.norm.as_ref()?;
        Some(["running_mean", "running_var"].map(|part| (format!("{norm}.{part}"), vec![self.output])))
    }

    fn load(&self, gpu: &Gpu, values: &mut Values<'_>) -> Result<Tensor> {
        let (name, shape) = self.weight();
        let values = channels_last(&values(&name, &shape)?, self.input, self.side * self.side);
        gpu.upload(&name, &values, &[self.output, self.side * self.side * self.input])
    }
}

/// A convolution's weight `[out, input, area]` as `[out, area, input]`.
fn channels_last(values: &[f32], input: usize, area: usize) -> Vec<f32> {
    let kernel = |kernel: &[f32]| -> Vec<f32> {
        (0..area).flat_map(|at| (0..input).map(move |c| c * area + at)).map(|at| kernel[at]).collect()
    };
    values.chunks_exact(input * area).flat_map(kernel).collect()
}

/// The way back, which is the same with input and area exchanged.
fn channels_first(values: &[f32], input: usize, area: usize) -> Vec<f32> {
    channels_last(values, area, input)
}

/// The stages: name, input and output of each.
fn stages([narrow, wide]: [usize; 2]) -> [(&'static str, usize, usize); 4] {
    [("layer1.0", narrow, narrow), ("layer1.1", narrow, narrow), ("layer2.0", narrow, wide), ("layer3.0", wide, narrow)]
}

/// A stage's convolutions.
fn places(name: &str, input: usize, output: usize) -> (Place, Place, Option<Place>) {
    let at = |part: &str| format!("{name}.{part}");
    (
        Place::new(at("conv1"), at("bn1"), (input, output), SIDE),
        Place::new(at("conv2"), at("bn2"), (output, output), SIDE),
        (input != output).then(|| Place::new(at("shortcut.0"), at("shortcut.1"), (input, output), 1)),
    )
}

/// All of a network's convolutions in order.
fn all_places(widths: [usize; 2]) -> Vec<Place> {
    let mut all = vec![Place::new("conv1", "bn1", (COLOURS, widths[0]), SIDE)];
    for (name, input, output) in stages(widths) {
        let (first, second, shortcut) = places(name, input, output);
        all.extend([first, second]);
        all.extend(shortcut);
    }
    all.extend([Place::head("conv_variance", widths[0]), Place::head("conv_mean", widths[0])]);
    all
}

/// A convolution and its batch norm.
#[derive(Clone, Debug)]
struct ConvNorm {
    /// `[out, side²·in]`.
    weight: Tensor,
    side: usize,
    gain: Tensor,
    shift: Tensor,
    /// `[2, out]`: mean and variance.
    running: Tensor,
}

/// What its backward needs.
struct SavedConv {
    /// Its input; none of the pixels, which the caller has.
    x: Option<Maps>,
    raw: Maps,
    stats: Tensor,
}

#[derive(Clone, Debug)]
struct Stage {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}

struct SavedStage {
    first: SavedConv,
    second: SavedConv,
    shortcut: Option<SavedConv>,
    /// Between the two, and at the end: each after its ReLU.
    middle: Maps,
    y: Maps,
}

/// What statistics a pass normalises by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The pictures' own, in which all of them take part; the running ones move towards them.
    Batch,
    /// The running ones.
    Running,
}

/// The network.
#[derive(Clone, Debug)]
pub struct NoiseNet {
    widths: [usize; 2],
    stem: ConvNorm,
    stages: Vec<Stage>,
    spread: Tensor,
    mean: Tensor,
    /// Bytes of a layer's tensor.
    layer: u64,
}

/// What [`NoiseNet::backward`] needs of the forward pass.
pub struct SavedNet {
    groups: Vec<Range<usize>>,
    stem: SavedConv,
    stem_y: Maps,
    stages: Vec<SavedStage>,
}

/// What the way to the last maps leaves for the way back: of the stem, its maps, and of the stages.
type Passed = (SavedConv, Maps, Vec<SavedStage>);

/// The pictures that a convolution takes.
enum Input<'a> {
    Pixels(&'a Tensor, &'a [Range<usize>]),
    Maps(&'a [Tensor]),
}

impl Input<'_> {
    fn pictures(&self) -> Vec<Pictures<'_>> {
        match self {
            Input::Pixels(x, groups) => groups.iter().map(|images| Pictures::of_pixels(x, images.clone())).collect(),
            Input::Maps(maps) => maps.iter().map(Pictures::all).collect(),
        }
    }
}

impl ConvNorm {
    fn load(gpu: &Gpu, place: &Place, values: &mut Values<'_>) -> Result<ConvNorm> {
        let weight = place.load(gpu, values)?;
        let mut read = |(name, shape): &(String, Vec<usize>)| values(name, shape);
        let parameters = place.parameters();
        let [_, gain, shift] = &parameters[..] else { return Err(Error::invalid("a convolution without its norm")) };
        let (gain_values, shift_values) = (read(gain)?, read(shift)?);
        let Some([mean, variance]) = place.running() else { return Err(Error::invalid("a norm without statistics")) };
        let running = [read(&mean)?, read(&variance)?].concat();
        if running[place.output..].iter().any(|v| *v < 0.0) {
            return Err(Error::invalid(format!("'{}' holds a negative variance", variance.0)));
        }
        Ok(ConvNorm {
            weight,
            side: place.side,
            gain: gpu.upload(&gain.0, &gain_values, &gain.1)?,
            shift: gpu.upload(&shift.0, &shift_values, &shift.1)?,
            running: gpu.upload(&mean.0, &running, &[2, place.output])?,
        })
    }

    fn tensors(&self) -> [&Tensor; 3] {
        [&self.weight, &self.gain, &self.shift]
    }

    fn forward(
        &self,
        rec: &mut Recorder,
        input: &Input<'_>,
        by: Statistics,
        base: Option<&[Tensor]>,
        relu: bool,
    ) -> Result<(Maps, SavedConv)> {
        let raw =
            input.pictures().iter().map(|of| conv::same(rec, of, &self.weight, None)).collect::<Result<Maps>>()?;
        let stats = match by {
            Statistics::Batch => batchnorm::statistics(rec, &raw, &self.running)?,
            Statistics::Running => batchnorm::recalled(rec, &self.running)?,
        };
        let mut y = Vec::with_capacity(raw.len());
        for (i, raw) in raw.iter().enumerate() {
            let extra = Extra { base: base.and_then(|base| base.get(i)), relu };
            y.push(batchnorm::apply(rec, raw, &stats, (&self.gain, &self.shift), extra)?);
        }
        let x = match input {
            Input::Pixels(..) => None,
            Input::Maps(maps) => Some(maps.to_vec()),
        };
        Ok((y, SavedConv { x, raw, stats }))
    }

    /// Gradients of weight, gain and shift from those by the norm's output, and those by its raw input.
    fn backward(
        &self,
        rec: &mut Recorder,
        input: &Input<'_>,
        saved: &SavedConv,
        dy: &[Tensor],
    ) -> Result<([Tensor; 3], Maps)> {
        let grads = batchnorm::backward(rec, &saved.raw, &saved.stats, &self.gain, dy)?;
        let weight = weight_of(rec, input, &self.weight, &grads.x)?;
        Ok(([weight, grads.gain, grads.shift], grads.x))
    }

    /// The gradient by the input, plus `base`.
    fn input(&self, rec: &mut Recorder, draw: &[Tensor], base: Option<&[Tensor]>) -> Result<Maps> {
        let base = |i: usize| base.and_then(|base| base.get(i));
        let parts = draw.iter().enumerate();
        parts.map(|(i, dy)| conv::same_input(rec, &Pictures::all(dy), &self.weight, self.side, base(i))).collect()
    }
}

/// The gradient of a weight over all pictures.
fn weight_of(rec: &mut Recorder, input: &Input<'_>, weight: &Tensor, dy: &[Tensor]) -> Result<Tensor> {
    let mut sum = None;
    for (of, dy) in input.pictures().iter().zip(dy) {
        sum = Some(conv::same_weight(rec, of, weight, dy, sum)?);
    }
    sum.ok_or_else(|| Error::invalid("a convolution without pictures"))
}

/// dy where y, after its ReLU, is not 0.
fn masked(rec: &mut Recorder, y: &[Tensor], dy: &[Tensor]) -> Result<Maps> {
    y.iter().zip(dy).map(|(y, dy)| activation::backward(rec, Activation::Relu, y, dy)).collect()
}

impl Stage {
    fn forward(&self, rec: &mut Recorder, x: &[Tensor], by: Statistics) -> Result<(Maps, SavedStage)> {
        let (middle, first) = self.first.forward(rec, &Input::Maps(x), by, None, true)?;
        let (base, shortcut) = match &self.shortcut {
            None => (x.to_vec(), None),
            Some(shortcut) => {
                let (base, saved) = shortcut.forward(rec, &Input::Maps(x), by, None, false)?;
                (base, Some(saved))
            }
        };
        let (y, second) = self.second.forward(rec, &Input::Maps(&middle), by, Some(&base), true)?;
        Ok((y.clone(), SavedStage { first, second, shortcut, middle, y }))
    }

    /// The gradient by x, and those of the parameters in order.
    fn backward(&self, rec: &mut Recorder, saved: &SavedStage, dy: &[Tensor]) -> Result<(Maps, Vec<Tensor>)> {
        let dsum = masked(rec, &saved.y, dy)?;
        let (second, draw) = self.second.backward(rec, &Input::Maps(&saved.middle), &saved.second, &dsum)?;
        let dmiddle = self.second.input(rec, &draw, None)?;
        let dmiddle = masked(rec, &saved.middle, &dmiddle)?;
        let x = saved.first.x.as_deref().unwrap_or_default();
        let (first, draw) = self.first.backward(rec, &Input::Maps(x), &saved.first, &dmiddle)?;
        let mut grads = [first, second].concat();
        let past = match self.shortcut.as_ref().zip(saved.shortcut.as_ref()) {
            None => dsum,
            Some((shortcut, saved)) => {
                let (own, draw) = shortcut.backward(rec, &Input::Maps(x), saved, &dsum)?;
                grads.extend(own);
                shortcut.input(rec, &draw, None)?
            }
        };
        Ok((self.first.input(rec, &draw, Some(&past))?, grads))
    }
}

impl NoiseNet {
    /// Channels of the paper's stages: of all but the third, and of that.
    pub const PUBLISHED: [usize; 2] = [64, 128];

    /// Name and shape of each parameter, as the published code has them, in the order of [`NoiseNet::tensors`].
    pub fn parameters(widths: [usize; 2]) -> Vec<(String, Vec<usize>)> {
        all_places(widths).iter().flat_map(Place::parameters).collect()
    }

    /// A network of `widths` from values under the published names, the running statistics among them.
    ///
    /// # Errors
    /// What `values` gives; a negative variance; out of memory.
    pub fn load(gpu: &Gpu, widths: [usize; 2], values: &mut Values<'_>) -> Result<NoiseNet> {
        let stem = ConvNorm::load(gpu, &Place::new("conv1", "bn1", (COLOURS, widths[0]), SIDE), values)?;
        let mut all = Vec::new();
        for (name, input, output) in stages(widths) {
            let (first, second, shortcut) = places(name, input, output);
            let first = ConvNorm::load(gpu, &first, values)?;
            let second = ConvNorm::load(gpu, &second, values)?;
            let shortcut = shortcut.map(|place| ConvNorm::load(gpu, &place, values)).transpose()?;
            all.push(Stage { first, second, shortcut });
        }
        let spread = Place::head("conv_variance", widths[0]).load(gpu, values)?;
        let mean = Place::head("conv_mean", widths[0]).load(gpu, values)?;
        Ok(NoiseNet { widths, stem, stages: all, spread, mean, layer: LAYER })
    }

    /// The same with layers whose tensors take up to so many bytes.
    #[doc(hidden)]
    #[must_use]
    pub fn in_parts(self, layer: u64) -> NoiseNet {
        NoiseNet { layer, ..self }
    }

    /// Channels of all stages but the third, and of that.
    pub fn widths(&self) -> [usize; 2] {
        self.widths
    }

    fn norms(&self) -> Vec<&ConvNorm> {
        let mut all = vec![&self.stem];
        for Stage { first, second, shortcut } in &self.stages {
            all.extend([first, second]);
            all.extend(shortcut);
        }
        all
    }

    /// What trains, in the order of [`NoiseNet::parameters`]; weights lie as `[out, side²·in]`.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let mut all: Vec<&Tensor> = self.norms().into_iter().flat_map(ConvNorm::tensors).collect();
        all.extend([&self.spread, &self.mean]);
        all
    }

    /// Running statistics `[2, channels]` of each batch norm, in order.
    pub fn running(&self) -> Vec<&Tensor> {
        self.norms().into_iter().map(|norm| &norm.running).collect()
    }

    /// All values under their published names: parameters and running statistics.
    ///
    /// # Errors
    /// A lost device.
    pub fn download(&self, gpu: &Gpu) -> Result<Named> {
        let tensors: Vec<Vec<f32>> = self.tensors().into_iter().map(|t| gpu.read(t)).collect::<Result<_>>()?;
        let mut all = self.published(&tensors);
        let places = all_places(self.widths);
        for (place, running) in places.iter().filter_map(Place::running).zip(self.running()) {
            let values: Vec<f32> = gpu.read(running)?;
            for ((name, shape), values) in place.into_iter().zip(values.chunks_exact(running.cols())) {
                all.push((name, shape, values.to_vec()));
            }
        }
        Ok(all)
    }

    /// Values of [`NoiseNet::tensors`], or gradients of them, as they are published.
    pub fn published(&self, values: &[Vec<f32>]) -> Named {
        let parameters = NoiseNet::parameters(self.widths);
        let published = |((name, shape), values): ((String, Vec<usize>), &Vec<f32>)| {
            let values = match shape[..] {
                [_, input, side, _] => channels_first(values, input, side * side),
                _ => values.clone(),
            };
            (name, shape, values)
        };
        parameters.into_iter().zip(values).map(published).collect()
    }

    /// Which pictures lie together.
    fn groups(&self, gpu: &Gpu, pixels: &Tensor) -> Result<Vec<Range<usize>>> {
        let &[pictures, COLOURS, size, size_x] = pixels.shape() else {
            return Err(Error::invalid(format!("noise of pixels: they have shape {:?}", pixels.shape())));
        };
        if size != size_x {
            return Err(Error::invalid(format!("noise of pixels: pictures of {size_x}×{size}")));
        }
        let widest = self.widths[0].max(self.widths[1]);
        let at_once = (self.layer.min(gpu.max_binding()) / (4 * size * size * widest) as u64).max(1) as usize;
        Ok((0..pictures).step_by(at_once).map(|first| first..(first + at_once).min(pictures)).collect())
    }

    /// Both heads' weight, `[2·colours, side²·channels]`, the means first.
    fn heads(&self, rec: &mut Recorder) -> Result<Tensor> {
        let both = rec.temp("noise heads", &[2 * COLOURS, self.mean.cols()])?;
        slices::put(rec, &self.mean, &both, 0)?;
        slices::put(rec, &self.spread, &both, self.mean.len())?;
        Ok(both)
    }

    fn body(
        &self,
        rec: &mut Recorder,
        pixels: &Tensor,
        groups: &[Range<usize>],
        by: Statistics,
    ) -> Result<(Maps, Passed)> {
        let (stem_y, stem) = self.stem.forward(rec, &Input::Pixels(pixels, groups), by, None, true)?;
        let mut x = stem_y.clone();
        let mut stages = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let (y, saved) = stage.forward(rec, &x, by)?;
            stages.push(saved);
            x = y;
        }
        Ok((x, (stem, stem_y, stages)))
    }

    /// Raw noise `[pictures, size², 2·colours]` of pixels `[pictures, colours, size, size]` by the running statistics, a bounded
    /// number of pictures at a time.
    ///
    /// # Errors
    /// Pixels of another shape; out of memory.
    pub fn infer(&self, rec: &mut Recorder, pixels: &Tensor) -> Result<Tensor> {
        let groups = self.groups(rec.gpu(), pixels)?;
        let heads = self.heads(rec)?;
        let raw = raw_noise(rec, pixels)?;
        for group in &groups {
            let (x, _) = self.body(rec, pixels, std::slice::from_ref(group), Statistics::Running)?;
            put_heads(rec, &x, &heads, (&raw, group.start))?;
        }
        Ok(raw)
    }

    /// The same by the pictures' own statistics, as in training, and what backward needs.
    ///
    /// # Errors
    /// As [`NoiseNet::infer`].
    pub fn forward_saved(&self, rec: &mut Recorder, pixels: &Tensor, by: Statistics) -> Result<(Tensor, SavedNet)> {
        let groups = self.groups(rec.gpu(), pixels)?;
        let heads = self.heads(rec)?;
        let (x, (stem, stem_y, stages)) = self.body(rec, pixels, &groups, by)?;
        let raw = raw_noise(rec, pixels)?;
        put_heads(rec, &x, &heads, (&raw, 0))?;
        Ok((raw, SavedNet { groups, stem, stem_y, stages }))
    }

    /// Gradients in the order of [`NoiseNet::tensors`] from that of the raw noise, which was made by the pictures' own statistics.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(&self, rec: &mut Recorder, pixels: &Tensor, saved: SavedNet, draw: &Tensor) -> Result<Vec<Tensor>> {
        let SavedNet { groups, stem, stem_y, mut stages } = saved;
        let size = pixels.shape().last().copied().unwrap_or(0);
        let one = size * size * 2 * COLOURS;
        let mut dheads = Vec::with_capacity(groups.len());
        for group in &groups {
            let shape = [group.len(), size, size, 2 * COLOURS];
            dheads.push(slices::take(rec, draw, group.start * one..group.end * one, &shape)?);
        }
        let heads = self.heads(rec)?;
        let last = stages.last().map_or(&stem_y, |stage| &stage.y).clone();
        let both = weight_of(rec, &Input::Maps(&last), &heads, &dheads)?;
        let of = self.mean.len();
        let mean = slices::take(rec, &both, 0..of, self.mean.shape())?;
        let spread = slices::take(rec, &both, of..2 * of, self.spread.shape())?;
        let dx = dheads.iter();
        let dx = dx.map(|dy| conv::same_input(rec, &Pictures::all(dy), &heads, SIDE, None));
        let mut dx = dx.collect::<Result<Maps>>()?;
        let mut of_stages = Vec::with_capacity(stages.len());
        for stage in self.stages.iter().rev() {
            let Some(saved) = stages.pop() else { return Err(Error::invalid("a stage without its forward pass")) };
            let (next, grads) = stage.backward(rec, &saved, &dx)?;
            of_stages.push(grads);
            dx = next;
        }
        let dstem = masked(rec, &stem_y, &dx)?;
        let (own, _) = self.stem.backward(rec, &Input::Pixels(pixels, &groups), &stem, &dstem)?;
        let mut all = own.to_vec();
        all.extend(of_stages.into_iter().rev().flatten());
        all.extend([spread, mean]);
        Ok(all)
    }
}

fn raw_noise(rec: &mut Recorder, pixels: &Tensor) -> Result<Tensor> {
    let &[pictures, _, size, _] = pixels.shape() else {
        return Err(Error::invalid(format!("noise of pixels: they have shape {:?}", pixels.shape())));
    };
    rec.temp("raw noise", &[pictures, size * size, 2 * COLOURS])
}

/// Writes the heads' output of x to the pictures of `raw` from `first` on.
fn put_heads(rec: &mut Recorder, x: &[Tensor], heads: &Tensor, (raw, first): (&Tensor, usize)) -> Result<()> {
    let one = raw.len() / raw.shape().first().copied().unwrap_or(1).max(1);
    let mut at = first * one;
    for maps in x {
        let y = conv::same(rec, &Pictures::all(maps), heads, None)?;
        slices::put(rec, &y, raw, at)?;
        at += y.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{NoiseNet, channels_first, channels_last};

    #[test]
    fn weights_are_reordered_and_back() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        // Two outputs, three inputs, two cells.
        let last = channels_last(&values, 3, 2);
        assert_eq!(last[..6], [0., 2., 4., 1., 3., 5.]);
        assert_eq!(channels_first(&last, 3, 2), values);
    }

    #[test]
    fn the_published_network_is_of_its_size() {
        let parameters = NoiseNet::parameters(NoiseNet::PUBLISHED);
        let count: usize = parameters.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        // 3→64; two stages of 64; 64→128 and 128→64 with their shortcuts; two heads; a gain and a shift for each channel.
        let convs =
            27 * 64 + 4 * 9 * 64 * 64 + 9 * (64 * 128 + 128 * 128 + 128 * 64 + 64 * 64) + 2 * 64 * 128 + 2 * 27 * 64;
        let norms = 2 * (64 + 4 * 64 + 3 * 128 + 3 * 64);
        assert_eq!(count, convs + norms);
        assert_eq!(parameters[0].0, "conv1.weight");
        assert_eq!(parameters.last().map(|(name, _)| name.as_str()), Some("conv_mean.weight"));
    }
}
