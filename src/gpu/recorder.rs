//! Recording a step once and running it many times.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use super::device::Gpu;
use super::pipeline::{Access, Pipeline, Variant};
use super::pool::FreeList;
use super::tensor::{DType, Tensor};
use crate::{Error, Result};

/// Work in one submission, in floating-point operations with a byte counted as ten. A slow integrated GPU does this
/// in well under the two seconds after which some systems kill a submission.
const SUBMIT_COST: f64 = 5e10;

/// Number of workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// This many in a row; split over two dimensions where there are more than one dimension takes. The shader
    /// reads its number as `wid.y * nwg.x + wid.x` and must ignore numbers past the end.
    Linear(usize),
    /// Exactly this shape.
    Cube(usize, usize, usize),
}

impl Grid {
    /// Enough workgroups of `per` elements for `n`.
    pub fn cover(n: usize, per: usize) -> Grid {
        Grid::Linear(n.div_ceil(per))
    }

    fn dims(self, limit: u32) -> Result<[u32; 3]> {
        let limit = limit as usize;
        let dims = match self {
            Grid::Linear(n) if n <= limit => [n, 1, 1],
            Grid::Linear(n) => {
                let y = n.div_ceil(limit);
                [n.div_ceil(y), y, 1]
            }
            Grid::Cube(x, y, z) => [x, y, z],
        };
        if dims.iter().any(|d| *d == 0 || *d > limit) {
            return Err(Error::invalid(format!("dispatch of {dims:?} workgroups; the adapter allows 1…{limit} each")));
        }
        Ok(dims.map(|d| d as u32))
    }
}

/// One kernel call.
pub struct Dispatch<'a> {
    /// The kernel.
    pub variant: Variant,
    /// What profiles and errors call it.
    pub label: &'static str,
    /// The parameter block (binding 0), a multiple of 16 bytes.
    pub params: &'a [u8],
    /// Storage bindings 1…, in the shader's order.
    pub bindings: &'a [&'a Tensor],
    /// Workgroups.
    pub grid: Grid,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes that must be moved at the least.
    pub bytes: f64,
}

struct Op {
    pipeline: Arc<Pipeline>,
    label: &'static str,
    params: Range<usize>,
    /// Buffers and the bytes bound of each. Handles to plain buffers, so that the plan's own temporaries can go back
    /// to the pool while recording goes on.
    bindings: Vec<(wgpu::Buffer, u64)>,
    grid: [u32; 3],
    flops: f64,
    bytes: f64,
}

/// Collects the dispatches of one step.
///
/// Temporaries come from the recorder's own pool: when the last handle to one is dropped while recording, a later
/// dispatch of the same plan may reuse its buffer, since dispatches run in order. Nothing outside the plan ever
/// gets such a buffer while the plan is alive, so a plan can be run again and again.
pub struct Recorder {
    gpu: Gpu,
    pool: Arc<FreeList>,
    ops: Vec<Op>,
    params: Vec<u8>,
    /// Tensors from outside the plan (weights, inputs): held, or their buffers would be handed to others.
    outside: Vec<Tensor>,
}

impl Recorder {
    /// An empty recording.
    pub fn new(gpu: &Gpu) -> Self {
        Recorder {
            gpu: gpu.clone(),
            pool: Arc::new(FreeList::default()),
            ops: Vec::new(),
            params: Vec::new(),
            outside: Vec::new(),
        }
    }

    /// The device recorded for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// An f32 temporary of the plan, contents undefined.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the adapter's limits.
    pub fn temp(&self, what: &str, shape: &[usize]) -> Result<Tensor> {
        self.gpu.allocate(&self.pool, what, shape, DType::F32)
    }

    /// A u32 temporary of the plan, contents undefined.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the adapter's limits.
    pub fn temp_u32(&self, what: &str, shape: &[usize]) -> Result<Tensor> {
        self.gpu.allocate(&self.pool, what, shape, DType::U32)
    }

    /// Appends a dispatch.
    ///
    /// # Errors
    /// [`Error::Invalid`] when bindings do not fit the shader, or one buffer would be read and written at once.
    pub fn dispatch(&mut self, dispatch: &Dispatch<'_>) -> Result<()> {
        let access = dispatch.variant.shader.access;
        let key = || dispatch.variant.key();
        if access.len() != dispatch.bindings.len() {
            return Err(Error::invalid(format!(
                "{}: {} bindings, the shader has {}",
                key(),
                dispatch.bindings.len(),
                access.len()
            )));
        }
        for (i, a) in dispatch.bindings.iter().enumerate() {
            for (j, b) in dispatch.bindings.iter().enumerate().skip(i + 1) {
                if a.same_buffer(b) && (access[i] == Access::Write || access[j] == Access::Write) {
                    return Err(Error::invalid(format!("{}: bindings {i} and {j} share a buffer", key())));
                }
            }
        }
        let grid = dispatch.grid.dims(self.gpu.limits().max_compute_workgroups_per_dimension)?;
        let pipeline = self.gpu.0.pipelines.get(&self.gpu.0.device, &dispatch.variant);
        let align = self.gpu.limits().min_uniform_buffer_offset_alignment as usize;
        self.params.resize(self.params.len().next_multiple_of(align.max(16)), 0);
        let start = self.params.len();
        self.params.extend_from_slice(dispatch.params);
        self.params.resize(start + dispatch.params.len().next_multiple_of(16), 0);
        let mut bindings = Vec::with_capacity(dispatch.bindings.len());
        for tensor in dispatch.bindings {
            bindings.push((tensor.buffer()?.clone(), tensor.bytes()));
            let own = std::ptr::eq(tensor.storage.home.as_ptr(), Arc::as_ptr(&self.pool));
            if !own && !self.outside.iter().any(|t| t.same_buffer(tensor)) {
                self.outside.push((*tensor).clone());
            }
        }
        self.ops.push(Op {
            pipeline,
            label: dispatch.label,
            params: start..self.params.len(),
            bindings,
            grid,
            flops: dispatch.flops,
            bytes: dispatch.bytes,
        });
        Ok(())
    }

    /// Builds parameters and bind groups.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the driver refused a pipeline or a bind group.
    pub fn finish(self) -> Result<Plan> {
        let device = &self.gpu.0.device;
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: self.params.len().max(16) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.gpu.0.queue.write_buffer(&params, 0, &self.params);
        let mut steps = Vec::with_capacity(self.ops.len());
        let mut cost = 0.0;
        for op in self.ops {
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &params,
                    offset: op.params.start as u64,
                    size: std::num::NonZeroU64::new(op.params.len() as u64),
                }),
            }];
            for (i, (buffer, bytes)) in op.bindings.iter().enumerate() {
                entries.push(wgpu::BindGroupEntry {
                    binding: i as u32 + 1,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer,
                        offset: 0,
                        // Exactly the tensor, not the pooled buffer: index checks then mean something.
                        size: std::num::NonZeroU64::new(*bytes),
                    }),
                });
            }
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(op.label),
                layout: &op.pipeline.layout,
                entries: &entries,
            });
            cost += op.flops + 10.0 * op.bytes;
            let cut = cost > SUBMIT_COST;
            if cut {
                cost = 0.0;
            }
            steps.push(Step {
                pipeline: op.pipeline,
                group,
                grid: op.grid,
                label: op.label,
                flops: op.flops,
                bytes: op.bytes,
                cut,
            });
        }
        self.gpu.check()?;
        Ok(Plan { gpu: self.gpu, steps, pool: self.pool, _outside: self.outside })
    }
}

struct Step {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    grid: [u32; 3],
    label: &'static str,
    flops: f64,
    bytes: f64,
    /// Whether a submission ends here.
    cut: bool,
}

/// A recorded step: pipelines, bind groups and parameters, built once.
pub struct Plan {
    gpu: Gpu,
    steps: Vec<Step>,
    pool: Arc<FreeList>,
    _outside: Vec<Tensor>,
}

impl Plan {
    /// Encodes the step into one pass and submits it (a very long one in several submissions, see ARCHITECTURE.md).
    /// Returns without waiting.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn run(&self) -> Result<()> {
        if self.gpu.0.profile.is_some() {
            return self.run_profiled();
        }
        for chunk in self.steps.split_inclusive(|s| s.cut) {
            let mut encoder = self.gpu.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for step in chunk {
                    pass.set_pipeline(&step.pipeline.compute);
                    pass.set_bind_group(0, &step.group, &[]);
                    pass.dispatch_workgroups(step.grid[0], step.grid[1], step.grid[2]);
                }
            }
            self.gpu.0.queue.submit([encoder.finish()]);
        }
        let _ = self.gpu.0.device.poll(wgpu::PollType::Poll);
        self.gpu.check()
    }

    /// As [`Plan::run`], each dispatch in a pass of its own between two timestamps.
    fn run_profiled(&self) -> Result<()> {
        let gpu = &self.gpu.0;
        // A query set holds at most 4096 timestamps.
        for chunk in self.steps.chunks(2048) {
            let count = chunk.len() as u32 * 2;
            let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let size = u64::from(count) * 8;
            let buffer = |usage| {
                gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("profile"),
                    size,
                    usage,
                    mapped_at_creation: false,
                })
            };
            let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
            let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
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
            gpu.queue.submit([encoder.finish()]);
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.gpu.map(&staging)?);
            if let Some(profile) = &gpu.profile {
                let mut profile = profile.lock().unwrap_or_else(PoisonError::into_inner);
                for (step, pair) in chunk.iter().zip(ticks.chunks_exact(2)) {
                    profile.add(step.label, pair[1].saturating_sub(pair[0]), step.flops, step.bytes);
                }
            }
        }
        self.gpu.check()
    }

    /// The labels of the dispatches, in order.
    pub fn labels(&self) -> Vec<&'static str> {
        self.steps.iter().map(|s| s.label).collect()
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> f64 {
        self.steps.iter().map(|s| s.flops).sum()
    }

    /// Bytes of GPU memory that the plan's temporaries take together.
    pub fn allocated_bytes(&self) -> u64 {
        self.pool.allocated()
    }

    /// Submissions that one run makes.
    pub fn submissions(&self) -> usize {
        self.steps.split_inclusive(|s| s.cut).count()
    }
}

#[cfg(test)]
mod tests {
    use super::Grid;

    #[test]
    fn linear_grids_fold_without_losing_a_group() {
        for n in [1, 7, 65535, 65536, 200_001, 10_000_019] {
            let [x, y, z] = Grid::Linear(n).dims(65535).unwrap();
            assert!(x <= 65535 && y <= 65535 && z == 1);
            assert!(u64::from(x) * u64::from(y) >= n as u64);
        }
        assert!(Grid::Linear(0).dims(65535).is_err());
        assert!(Grid::Cube(1, 70000, 1).dims(65535).is_err());
    }
}
