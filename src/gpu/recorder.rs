//! Recording a step once and running it many times.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};

use super::arena::{self, Arena, Extent, Life};
use super::device::Gpu;
use super::memory::Memory;
use super::pipeline::{Access, Pipeline, Variant};
use super::plan::{Footprint, Plan, Step};
use super::tensor::{DType, Storage, Tensor, extent};
use super::wgsl::Binding;
use crate::{Error, Result};

/// Work in one submission, in floating-point operations with a byte counted as ten. A slow integrated GPU does this
/// in well under the two seconds after which some systems kill a submission.
pub(super) const SUBMIT_COST: f64 = 5e10;

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
            return Err(Error::invalid(format!("dispatch of {dims:?} workgroups; the device allows 1…{limit} each")));
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
    /// The parameter block (binding 0), in 32-bit words; what a uniform block needs behind it is added.
    pub params: &'a [u8],
    /// What the entry point binds besides the parameters, in the order of the numbers in its text.
    pub bindings: &'a [&'a Tensor],
    /// Workgroups.
    pub grid: Grid,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes that must be moved at the least.
    pub bytes: f64,
}

/// What a dispatch binds.
enum Bound {
    /// A temporary of the plan, by number.
    Temporary(usize),
    /// Something from outside.
    Outside(Memory),
}

struct Op {
    pipeline: Arc<Pipeline>,
    label: &'static str,
    params: Range<usize>,
    /// The bindings' numbers, the bound memory, and how much of it.
    bindings: Vec<(u32, Bound, Extent)>,
    grid: [u32; 3],
    flops: f64,
    bytes: f64,
}

/// A temporary that recording handed out.
struct Temporary {
    what: String,
    extent: Extent,
    /// Gone when nobody holds the tensor any more.
    storage: Weak<Storage>,
    /// The first and the last dispatch that bind it.
    used: Option<(usize, usize)>,
}

/// Collects the dispatches of one step.
///
/// Temporaries get their memory when recording is over, by their lives: those that are never needed at the same time
/// share it. A tensor that the caller still holds then is the plan's output: nothing else is put in its place after it
/// was written. Nothing outside the plan ever gets such memory while the plan is alive, so a plan can be run again and
/// again.
pub struct Recorder {
    gpu: Gpu,
    temporaries: Vec<Temporary>,
    /// Dispatches so far.
    count: usize,
    /// The dispatches; none in a rehearsal, which runs nothing.
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
            temporaries: Vec::new(),
            count: 0,
            ops: Vec::new(),
            params: Vec::new(),
            outside: Vec::new(),
        }
    }

    /// The device recorded for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// An f32 temporary of the plan, contents undefined. It has memory once recording is finished.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the device's limits.
    pub fn temp(&mut self, what: &str, shape: &[usize]) -> Result<Tensor> {
        self.temp_of(what, shape, DType::F32)
    }

    /// A temporary of the plan with elements of type `dtype`, contents undefined.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the device's limits.
    pub fn temp_of(&mut self, what: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let extent = self.gpu.checked_extent(what, shape, dtype)?;
        let storage = Arc::new(Storage::new(OnceLock::new(), None, Weak::new()));
        let temporary = Temporary { what: what.into(), extent, storage: Arc::downgrade(&storage), used: None };
        self.temporaries.push(temporary);
        Ok(Tensor { storage, shape: shape.to_vec(), dtype })
    }

    /// Appends a dispatch.
    ///
    /// # Errors
    /// [`Error::Invalid`] when bindings do not fit the shader, or one buffer would be read and written at once; [`Error::Gpu`]
    /// when the driver's compiler refused it.
    pub fn dispatch(&mut self, dispatch: &Dispatch<'_>) -> Result<()> {
        let wgsl = self.gpu.inner.pipelines.wgsl(&dispatch.variant)?;
        let key = || dispatch.variant.key();
        if wgsl.bindings.len() != dispatch.bindings.len() {
            let names: Vec<_> = wgsl.bindings.iter().map(|binding| binding.name.as_str()).collect();
            let (given, names) = (dispatch.bindings.len(), names.join(", "));
            return Err(Error::invalid(format!("{}: {given} tensors, the shader binds {names}", key())));
        }
        let bound = || wgsl.bindings.iter().zip(dispatch.bindings);
        for (i, (binding, a)) in bound().enumerate() {
            let Binding { name, access, .. } = binding;
            let bytes = a.dtype() == DType::ByteTexels;
            if access.is_texture() != a.dtype().is_texture() || (*access == Access::ReadBytes) != bytes {
                return Err(Error::invalid(format!("{}: {name} is a tensor of {:?}", key(), a.dtype())));
            }
            for (other, b) in bound().skip(i + 1) {
                if a.same_buffer(b) && (access.writes() || other.access.writes()) {
                    return Err(Error::invalid(format!("{}: {name} and {} share a buffer", key(), other.name)));
                }
            }
        }
        let grid = dispatch.grid.dims(self.gpu.limits().max_compute_workgroups_per_dimension)?;
        let align = self.gpu.limits().min_uniform_buffer_offset_alignment as usize;
        self.params.resize(self.params.len().next_multiple_of(align.max(16)), 0);
        let start = self.params.len();
        self.params.extend_from_slice(dispatch.params);
        self.params.resize(start + dispatch.params.len().next_multiple_of(16), 0);
        let mut bindings = Vec::with_capacity(dispatch.bindings.len());
        let number = self.count;
        self.count += 1;
        let rehearses = self.gpu.rehearses();
        for (binding, tensor) in bound() {
            let extent = extent(&tensor.shape, tensor.dtype)
                .ok_or_else(|| Error::invalid(format!("{}: a tensor of shape {:?}", key(), tensor.shape)))?;
            let storage = Arc::as_ptr(&tensor.storage);
            // Handed out last, used first: most dispatches bind what was made a moment ago.
            let own = self.temporaries.iter().rposition(|t| std::ptr::eq(t.storage.as_ptr(), storage));
            let bound = match own {
                Some(i) => {
                    let first = self.temporaries[i].used.map_or(number, |(first, _)| first);
                    self.temporaries[i].used = Some((first, number));
                    Bound::Temporary(i)
                }
                None => {
                    if !self.outside.iter().any(|t| t.same_buffer(tensor)) {
                        self.outside.push((*tensor).clone());
                    }
                    if rehearses {
                        continue;
                    }
                    Bound::Outside(tensor.memory()?.clone())
                }
            };
            bindings.push((binding.number, bound, extent));
        }
        if rehearses {
            return Ok(());
        }
        let gpu = &self.gpu.inner;
        let get = |device: &_| gpu.pipelines.get((device, &gpu.info.name), &gpu.trials, &dispatch.variant);
        // A lost device refuses, too, and that is what matters then.
        let pipeline = gpu.link.with(|device, _| get(device)).or_else(|error| self.gpu.check().and(Err(error)))?;
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

    /// Lays out the temporaries, makes their memory, and builds parameters and bind groups.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the temporaries do not fit; [`Error::Gpu`] when the driver refused a pipeline or a
    /// bind group.
    pub fn finish(self) -> Result<Plan> {
        let Recorder { gpu, temporaries, count, ops, params, outside } = self;
        let layout = Layout::of(&temporaries, count);
        let booked = gpu.take("a step's intermediate results", layout.footprint.allocated)?;
        if gpu.rehearses() {
            return Ok(Plan::new(gpu, Vec::new(), layout.footprint, booked, outside));
        }
        let places = layout.make(&gpu, &temporaries)?;
        let steps = gpu.inner.link.with(|device, queue| {
            let params = upload_params(device, queue, &params);
            let mut steps = Vec::with_capacity(ops.len());
            let mut cost = 0.0;
            for op in ops {
                let group = bind(device, &op, &params, &places)?;
                let Op { pipeline, label, grid, flops, bytes, .. } = op;
                let mut step = Step { pipeline, group, grid, label, flops, bytes, cut: false };
                cost += step.cost();
                if cost > SUBMIT_COST {
                    (step.cut, cost) = (true, 0.0);
                }
                steps.push(step);
            }
            Ok::<_, Error>(steps)
        })?;
        gpu.check()?;
        Ok(Plan::new(gpu, steps, layout.footprint, booked, outside))
    }
}

/// Where a recording's temporaries live.
struct Layout {
    /// The temporaries that need memory, by number.
    wanted: Vec<usize>,
    /// Those that somebody still holds: outputs.
    held: Vec<Option<Arc<Storage>>>,
    /// The places, in the order of `wanted`.
    arena: Arena,
    footprint: Footprint,
}

impl Layout {
    /// Lays out the temporaries of a recording of `end` dispatches.
    fn of(temporaries: &[Temporary], end: usize) -> Layout {
        let held: Vec<Option<Arc<Storage>>> = temporaries.iter().map(|t| t.storage.upgrade()).collect();
        let life = |i: usize| {
            let Temporary { extent, used, .. } = temporaries[i];
            match (used, &held[i]) {
                (Some((first, last)), None) => Some(Life { extent, span: first..=last }),
                // One that no dispatch binds but somebody holds still needs memory of its own.
                (used, Some(_)) => Some(Life { extent, span: used.map_or(0, |(first, _)| first)..=end }),
                (None, None) => None,
            }
        };
        let (wanted, lives): (Vec<usize>, Vec<Life>) =
            (0..temporaries.len()).filter_map(|i| life(i).map(|life| (i, life))).unzip();
        let arena = Arena::lay_out(&lives);
        let footprint = Footprint { allocated: arena.bytes(), live: arena::peak(&lives) };
        Layout { wanted, held, arena, footprint }
    }

    /// Makes the places and gives the outputs theirs. The result has each temporary's memory, if it needs some.
    fn make(&self, gpu: &Gpu, temporaries: &[Temporary]) -> Result<Vec<Option<Memory>>> {
        let mut places = Vec::with_capacity(self.arena.places.len());
        for (number, extent) in self.arena.places.iter().enumerate() {
            // A place is called what its first tenant is called.
            let first = self.arena.of.iter().position(|place| *place == number).map(|i| self.wanted[i]);
            let what = first.and_then(|i| temporaries.get(i)).map_or("temporary", |t| &t.what);
            places.push(gpu.make(what, *extent)?);
        }
        let mut memory = vec![None; temporaries.len()];
        for (i, place) in self.wanted.iter().zip(&self.arena.of) {
            memory[*i] = Some(places[*place].clone());
            if let Some(storage) = &self.held[*i] {
                let _ = storage.memory.set(places[*place].clone());
            }
        }
        Ok(memory)
    }
}

/// The uniform buffer with all dispatches' parameters.
fn upload_params(device: &wgpu::Device, queue: &wgpu::Queue, bytes: &[u8]) -> wgpu::Buffer {
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("parameters"),
        size: bytes.len().max(16) as u64,
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    queue.write_buffer(&buffer, 0, bytes);
    buffer
}

/// A dispatch's bind group: its part of the parameters, then its tensors.
fn bind(
    device: &wgpu::Device,
    op: &Op,
    params: &wgpu::Buffer,
    temporaries: &[Option<Memory>],
) -> Result<wgpu::BindGroup> {
    let range = |buffer, offset, size| {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: NonZeroU64::new(size) })
    };
    let mut entries = vec![wgpu::BindGroupEntry {
        binding: 0,
        resource: range(params, op.params.start as u64, op.params.len() as u64),
    }];
    for (number, bound, extent) in &op.bindings {
        let memory = match bound {
            Bound::Temporary(t) => {
                temporaries[*t].as_ref().ok_or_else(|| Error::Gpu("temporary without memory".into()))?
            }
            Bound::Outside(memory) => memory,
        };
        let resource = match memory {
            // Exactly the tensor, not the whole place: index checks then mean something.
            Memory::Buffer(buffer) => range(buffer, 0, extent.bytes()),
            Memory::Texture(_, view) => wgpu::BindingResource::TextureView(view),
        };
        entries.push(wgpu::BindGroupEntry { binding: *number, resource });
    }
    Ok(device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(op.label),
        layout: &op.pipeline.layout,
        entries: &entries,
    }))
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
