//! A student and its teacher in training: forward, loss, the student's gradients, and one step of both.

use super::head::Head;
use super::{GLOBAL_CROPS, Moment, SelfSupervised};
use crate::adapt::overlap::{Config, Correction, parameter_names};
use crate::clip::{Clip, CropFeatures, CropSizes};
use crate::gpu::{Plan, ReadBack, Recorder, Tensor};
use crate::kernels::dino::Views;
use crate::kernels::optim::{self, AdamW};
use crate::kernels::{clipping, dino, reduce};
use crate::nn::BottleneckGrads;
use crate::{Error, Result};

/// Forward and backward of one part of a batch, recorded once.
pub struct Step {
    /// `[views · n, 3, side, side]` of global and of local crops, normalised; view after view, row v·n + b being view v of
    /// picture b.
    pub pixels: Vec<Tensor>,
    /// `[1]`, the part's loss.
    pub loss: Tensor,
    /// The student's gradients in the order of [`parameter_names`], not clipped.
    pub grads: Vec<Tensor>,
    /// What the head gave for the student and for the teacher, where somebody wants to look at it.
    pub logits: Option<[Tensor; 2]>,
    /// The recorded step.
    pub plan: Plan,
}

/// Student, teacher and all that a step changes.
pub struct Trainer<'a> {
    clip: &'a Clip,
    /// What learns, and is kept.
    pub student: Correction,
    /// The student's running mean.
    pub teacher: Correction,
    /// What both look through.
    pub head: Head,
    /// `[width of the head]`: the running mean of what the teacher says, which is taken from it.
    pub centre: Tensor,
    /// The student's gradients of a batch, summed over its parts; clipped once the step is done.
    pub sums: Vec<Tensor>,
    settings: SelfSupervised,
    sizes: CropSizes,
    moments: Vec<Tensor>,
    centre_sum: Tensor,
    loss_sum: Tensor,
    share: Tensor,
    /// One over the temperatures of teacher and student.
    sharp: Tensor,
    /// AdamW's numbers for matrices, which decay, and for biases, which do not.
    hyper: [Tensor; 2],
    /// How much of the new is taken into the teacher and into the centre.
    taken: [Tensor; 2],
    update: Plan,
}

impl<'a> Trainer<'a> {
    /// A trainer of `student`, whose teacher is `teacher`: at the beginning its equal.
    ///
    /// # Errors
    /// A head that does not fit the model; a model that takes no crops; corrections of different widths; out of memory.
    pub fn new(
        clip: &'a Clip,
        [student, teacher]: [Correction; 2],
        head: Head,
        settings: &SelfSupervised,
    ) -> Result<Trainer<'a>> {
        let (gpu, vit) = (&clip.gpu, clip.image.vit()?);
        if head.embedding() != clip.config.embedding {
            let (takes, gives) = (head.embedding(), clip.config.embedding);
            return Err(Error::invalid(format!("a head for features of width {takes}; this model's are {gives} wide")));
        }
        let sizes = vit.crop_sizes(&[clip.preprocess.size, vit.local_side()?])?;
        let width = head.width();
        let zeros = |what: &str, shape: &[usize]| gpu.zeros(what, shape);
        let (centre, centre_sum) = (zeros("centre", &[width])?, zeros("centre", &[width])?);
        let tensors = student.tensors();
        let sums: Vec<Tensor> = tensors.iter().map(|t| zeros("gradient", t.shape())).collect::<Result<_>>()?;
        let moments: Vec<Tensor> = tensors.iter().map(|t| zeros("moments", &[2, t.len()])).collect::<Result<_>>()?;
        let hyper = [zeros("hyper", &[8])?, zeros("hyper", &[8])?];
        let taken = [zeros("share", &[1])?, zeros("share", &[1])?];
        let mut rec = Recorder::new(gpu);
        for (((w, of_teacher), moments), sum) in tensors.iter().zip(teacher.tensors()).zip(&moments).zip(&sums) {
            clipping::clip(&mut rec, sum, settings.clip as f32)?;
            let hyper = if w.shape().len() > 1 { &hyper[0] } else { &hyper[1] };
            optim::adamw(&mut rec, hyper, sum, moments, w)?;
            optim::blend(&mut rec, &taken[0], w, of_teacher)?;
        }
        optim::blend(&mut rec, &taken[1], &centre_sum, &centre)?;
        let update = rec.finish()?;
        let (loss_sum, share) = (zeros("loss", &[1])?, zeros("share", &[2])?);
        let sharp = zeros("temperatures", &[2])?;
        let settings = settings.clone();
        Ok(Trainer {
            clip,
            student,
            teacher,
            head,
            centre,
            sums,
            settings,
            sizes,
            moments,
            centre_sum,
            loss_sum,
            share,
            sharp,
            hyper,
            taken,
            update,
        })
    }

    /// A trainer from a seed: student and teacher are equal, and the tower with them is the plain one.
    ///
    /// # Errors
    /// As [`Trainer::new`]; settings out of range.
    pub fn fresh(clip: &'a Clip, config: &Config, settings: &SelfSupervised) -> Result<Trainer<'a>> {
        clip.image.vit()?.local_side()?;
        let both = [Correction::init(clip, config)?, Correction::init(clip, config)?];
        Trainer::new(clip, both, Head::random(clip, settings.sizes(), config.seed)?, settings)
    }

    /// Records forward and backward for `n` pictures. The teacher keeps nothing, nothing of the frozen tower or of the head gets a
    /// gradient, and what lies below the first bottleneck is computed once for both.
    ///
    /// # Errors
    /// Out of memory: fewer pictures at once need less.
    pub fn step(&self, n: usize) -> Result<Step> {
        self.record(n, false)
    }

    /// The same with [`Step::logits`].
    ///
    /// # Errors
    /// As [`Trainer::step`].
    #[doc(hidden)]
    pub fn step_tapped(&self, n: usize) -> Result<Step> {
        self.record(n, true)
    }

    fn record(&self, n: usize, tapped: bool) -> Result<Step> {
        let vit = self.clip.image.vit()?;
        let local = self.settings.local_crops;
        let views = Views { pictures: n, globals: GLOBAL_CROPS, all: GLOBAL_CROPS + local };
        let crops = vit.crops(&self.sizes, &[GLOBAL_CROPS * n, local * n])?;
        let mut rec = Recorder::new(&self.clip.gpu);
        let r = &mut rec;
        let blocks = &self.student.blocks;
        let features = vit.forward_crops(r, &crops, blocks, &self.teacher.blocks)?;
        let CropFeatures { student, saved, teacher } = features;
        let (said, _) = self.head.forward(r, &teacher)?;
        let wanted = dino::teacher(r, &said, &self.centre, &self.sharp, views)?;
        let centre = reduce::mean_first(r, &said)?;
        optim::accumulate(r, &self.share, &centre, &self.centre_sum)?;
        drop(centre);
        let (answers, of_head) = self.head.forward(r, &student)?;
        let loss = dino::student(r, &answers, &wanted, &self.sharp, views)?;
        let logits = tapped.then_some([answers, said]);
        let mean = reduce::mean_first(r, &loss.losses)?;
        let dfeatures = self.head.backward(r, &loss.grad, of_head)?;
        drop((loss, wanted, student, teacher));
        let grads = vit.backward_adapted(r, &dfeatures, saved, crops.pattern(), blocks)?;
        drop(dfeatures);
        let grads: Vec<Tensor> = grads.into_iter().flat_map(BottleneckGrads::tensors).collect();
        for (sum, grad) in self.sums.iter().zip(&grads) {
            optim::accumulate(r, &self.share, grad, sum)?;
        }
        optim::accumulate(r, &self.share, &mean, &self.loss_sum)?;
        Ok(Step { pixels: crops.pixels, loss: mean, grads, logits, plan: rec.finish()? })
    }

    /// Runs forward and backward of one part of a batch: `share` is the part's share of the batch's pictures, `first` says that it
    /// is the batch's first part. Returns without waiting.
    ///
    /// # Errors
    /// Lengths that do not fit; a lost device.
    pub fn run(&self, step: &Step, pixels: &[Vec<f32>], (share, first): (f32, bool), now: &Moment) -> Result<()> {
        let gpu = &self.clip.gpu;
        if pixels.len() != step.pixels.len() {
            let (given, wanted) = (pixels.len(), step.pixels.len());
            return Err(Error::invalid(format!("crops of {given} sizes for a step that takes {wanted}")));
        }
        for (tensor, values) in step.pixels.iter().zip(pixels) {
            gpu.write(tensor, values)?;
        }
        gpu.write(&self.share, &[if first { 0.0 } else { 1.0 }, share])?;
        let sharp = [now.temperature, self.settings.student_temperature].map(|t| (1.0 / t) as f32);
        gpu.write(&self.sharp, &sharp)?;
        step.plan.run()
    }

    /// One step of student, teacher and centre with the batch's gradients, the `number`-th from 1 on. Returns without waiting.
    ///
    /// # Errors
    /// A lost device.
    pub fn update(&self, now: &Moment, number: u32) -> Result<()> {
        let gpu = &self.clip.gpu;
        for (tensor, weight_decay) in self.hyper.iter().zip([now.decay, 0.0]) {
            gpu.write(tensor, &AdamW { weight_decay, ..AdamW::new(now.rate) }.hyper(number))?;
        }
        for (tensor, momentum) in self.taken.iter().zip([now.momentum, self.settings.centre_momentum]) {
            gpu.write(tensor, &[(1.0 - momentum) as f32])?;
        }
        self.update.run()
    }

    /// The last batch's loss, on its way.
    ///
    /// # Errors
    /// A lost device.
    pub fn begin_loss(&self) -> Result<ReadBack<f32>> {
        self.clip.gpu.begin_read(&self.loss_sum)
    }

    /// All that going on needs, by name; the head comes from its seed.
    pub(super) fn state(&self) -> Vec<(String, &Tensor)> {
        let names = parameter_names(self.student.blocks.len());
        let groups = [
            ("", self.student.tensors()),
            ("teacher.", self.teacher.tensors()),
            ("moments.", self.moments.iter().collect()),
        ];
        let mut all: Vec<(String, &Tensor)> = Vec::new();
        for (what, tensors) in groups {
            all.extend(names.iter().zip(tensors).map(|(name, tensor)| (format!("{what}{name}"), tensor)));
        }
        all.push(("centre".into(), &self.centre));
        all
    }
}
