//! A recorded step: pipelines, bind groups and parameters, built once and run many times.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::device::Gpu;
use super::ledger::Entry;
use super::pipeline::Pipeline;
use super::stop;
use super::tensor::Tensor;
use crate::Result;
use crate::platform::Instant;

pub(super) struct Step {
    pub pipeline: Arc<Pipeline>,
    pub group: wgpu::BindGroup,
    pub grid: [u32; 3],
    pub label: &'static str,
    pub flops: f64,
    pub bytes: f64,
    /// Whether a submission ends here, where they are not paced.
    pub cut: bool,
}

impl Step {
    /// An estimate of its work: floating-point operations, with a byte counted as ten.
    pub fn cost(&self) -> f64 {
        self.flops + 10.0 * self.bytes
    }

    /// Puts steps into one pass, between two timestamps where somebody wants them.
    pub fn encode<'s>(
        steps: impl Iterator<Item = &'s Step>,
        encoder: &mut wgpu::CommandEncoder,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let wanted = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
        let mut pass = encoder.begin_compute_pass(&wanted);
        for step in steps {
            pass.set_pipeline(&step.pipeline.compute);
            pass.set_bind_group(0, &step.group, &[]);
            pass.dispatch_workgroups(step.grid[0], step.grid[1], step.grid[2]);
        }
    }
}

/// Bytes of a plan's temporaries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    /// Of their places together.
    pub allocated: u64,
    /// The most that are alive at one time.
    pub live: u64,
}

/// A recorded step: pipelines, bind groups and parameters, built once.
pub struct Plan {
    gpu: Gpu,
    steps: Vec<Step>,
    memory: Footprint,
    _booked: Entry,
    _outside: Vec<Tensor>,
    /// Whether it was run: its kernels may be used for the first time no more than once.
    ran: AtomicBool,
}

impl Plan {
    pub(super) fn new(gpu: Gpu, steps: Vec<Step>, memory: Footprint, booked: Entry, outside: Vec<Tensor>) -> Plan {
        Plan { gpu, steps, memory, _booked: booked, _outside: outside, ran: AtomicBool::new(false) }
    }

    /// Encodes the step into one pass and submits it (a very long one in several submissions, see ARCHITECTURE.md).
    /// Returns without waiting, but on a host's queue ([`Gpu::on`]): there it returns when its last submission is made, and
    /// those before it had to run first.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`]; [`crate::Error::Stopped`] in [`super::Stop::during`].
    pub fn run(&self) -> Result<()> {
        self.run_after(&[])
    }

    /// As [`Plan::run`], with other plans' steps before its own, in the same pass.
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub fn run_after(&self, before: &[&Plan]) -> Result<()> {
        if self.gpu.rehearses() {
            return Ok(());
        }
        stop::check()?;
        let gpu = &self.gpu.inner;
        // The first submission carries over all that was written.
        gpu.staged.store(0, Ordering::Relaxed);
        for plan in before.iter().copied().chain([self]) {
            if !plan.ran.swap(true, Ordering::Relaxed) {
                gpu.trials.submit(plan.steps.iter().map(|step| step.pipeline.key.as_str()));
            }
        }
        let before = before.iter().flat_map(|plan| &plan.steps);
        if gpu.profile.is_some() {
            return self.run_profiled(&before.chain(&self.steps).collect::<Vec<_>>());
        }
        if let Some(pace) = &gpu.pace {
            let steps: Vec<&Step> = before.chain(&self.steps).collect();
            let mut rest = steps.as_slice();
            while !rest.is_empty() {
                stop::check()?;
                let (next, after) = rest.split_at(pace.next(rest));
                pace.submit(&gpu.link, next)?;
                rest = after;
            }
            return Ok(());
        }
        let mut before: Vec<&Step> = before.collect();
        for chunk in self.steps.split_inclusive(|s| s.cut) {
            let place = gpu.timeline.next();
            let marks = place.as_ref().map(|(query_set, first)| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(*first),
                end_of_pass_write_index: Some(first + 1),
            });
            gpu.link.submit(|encoder| Step::encode(before.drain(..).chain(chunk), encoder, marks));
        }
        gpu.link.look();
        self.gpu.check()
    }

    /// As [`Plan::run`], each dispatch in a pass of its own between two timestamps.
    fn run_profiled(&self, steps: &[&Step]) -> Result<()> {
        let gpu = &self.gpu.inner;
        // A query set holds at most 4096 timestamps.
        for chunk in steps.chunks(2048) {
            let count = chunk.len() as u32 * 2;
            let set = gpu.link.with(|device, _| {
                device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("profile"),
                    ty: wgpu::QueryType::Timestamp,
                    count,
                })
            });
            let size = u64::from(count) * 8;
            let buffer = |usage| {
                gpu.link.with(|device, _| {
                    device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some("profile"),
                        size,
                        usage,
                        mapped_at_creation: false,
                    })
                })
            };
            let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
            let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
            let submission = gpu.link.submit(|encoder| {
                for (i, step) in chunk.iter().enumerate() {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: Some(step.label),
                        timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                            query_set: &set,
                            beginning_of_pass_write_index: Some(i as u32 * 2),
                            end_of_pass_write_index: Some(i as u32 * 2 + 1),
                        }),
                    });
                    pass.set_pipeline(&step.pipeline.compute);
                    pass.set_bind_group(0, &step.group, &[]);
                    pass.dispatch_workgroups(step.grid[0], step.grid[1], step.grid[2]);
                }
                encoder.resolve_query_set(&set, 0..count, &resolved, 0);
                encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
            });
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.gpu.map(&staging, &submission)?);
            if let Some(profile) = &gpu.profile {
                let mut profile = profile.lock().unwrap_or_else(PoisonError::into_inner);
                for (step, pair) in chunk.iter().zip(ticks.chunks_exact(2)) {
                    profile.add(step.label, pair[1].saturating_sub(pair[0]), step.flops, step.bytes);
                }
            }
        }
        self.gpu.check()
    }

    /// The shortest of several runs, waited for: at most `most`, and no more once they took `budget` together. One run
    /// before them is not counted, since drivers compile on first use.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`].
    pub fn time(&self, budget: Duration, most: usize) -> Result<Duration> {
        let least = Plan::time_together(std::slice::from_ref(self), budget, most)?;
        Ok(least.first().copied().unwrap_or(Duration::MAX))
    }

    /// The shortest of several runs of each of `plans`, in rounds that run each once: what else the machine does then meets
    /// all of them. At most `most` rounds, and no more once they took `budget` together; one before them is not counted.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`].
    pub fn time_together(plans: &[Plan], budget: Duration, most: usize) -> Result<Vec<Duration>> {
        let once = |plan: &Plan| {
            let start = Instant::now();
            plan.run()?;
            plan.gpu.wait()?;
            Ok::<_, crate::Error>(start.elapsed())
        };
        for plan in plans {
            once(plan)?;
        }
        let (start, mut least) = (Instant::now(), vec![Duration::MAX; plans.len()]);
        for _ in 0..most {
            for (plan, least) in plans.iter().zip(&mut least) {
                *least = once(plan)?.min(*least);
            }
            if start.elapsed() > budget {
                break;
            }
        }
        Ok(least)
    }

    /// The labels of the dispatches, in order.
    pub fn labels(&self) -> Vec<&'static str> {
        self.steps.iter().map(|s| s.label).collect()
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> f64 {
        self.steps.iter().map(|s| s.flops).sum()
    }

    /// Bytes that one run must move at the least.
    pub fn bytes(&self) -> f64 {
        self.steps.iter().map(|s| s.bytes).sum()
    }

    /// Bytes of GPU memory that the plan's temporaries take together.
    pub fn allocated_bytes(&self) -> u64 {
        self.memory.allocated
    }

    #[doc(hidden)]
    /// The most bytes of temporaries that a run needs at one time: what [`Plan::allocated_bytes`] could be at best.
    pub fn live_bytes(&self) -> u64 {
        self.memory.live
    }

    #[doc(hidden)]
    /// Submissions that one run makes, where they are not paced.
    pub fn submissions(&self) -> usize {
        self.steps.split_inclusive(|s| s.cut).count()
    }
}
