//! Shaders, their variants, and the compiled pipelines, kept in memory and in an on-disk cache.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::link::Link;
use super::memory::{self, Memory};
use super::trials::{Trial, Trials};
use super::wait;
use super::wgsl::{Binding, Wgsl, compose};
use crate::files::write_cache;
use crate::{Error, Result};

/// How a shader uses a storage binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
    /// `texture_2d<f32>`, a tensor of texels
    ReadTexels,
    /// `texture_2d<i32>`, a tensor of 8-bit numbers in texels
    ReadBytes,
    /// `texture_storage_2d<rgba32float, write>`, a tensor of texels
    WriteTexels,
}

impl Access {
    /// Whether the shader writes.
    pub fn writes(self) -> bool {
        matches!(self, Access::Write | Access::WriteTexels)
    }

    /// Whether the binding is a texture.
    pub fn is_texture(self) -> bool {
        matches!(self, Access::ReadTexels | Access::ReadBytes | Access::WriteTexels)
    }
}

/// A WGSL text and what it imports. Binding 0 is the uniform parameter block; bindings 1… are storage buffers and textures.
/// Which of them an entry point has, and how it uses them, the text says (see `gpu/wgsl.rs`).
#[derive(Debug)]
pub struct Shader {
    /// Name of the family, for labels and caches.
    pub name: &'static str,
    /// Which of `texts` has the entry points.
    pub text: &'static str,
    /// Names and WGSL of all texts that may be imported, and of the shader's own.
    pub texts: &'static [(&'static str, &'static str)],
    /// What stands for a name that is imported: the name, and the text in its place.
    pub instead: &'static [(&'static str, &'static str)],
}

/// A shader with its entry point chosen and its open constants filled in.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The shader.
    pub shader: &'static Shader,
    /// Entry point.
    pub entry: &'static str,
    /// Values for the constants that the WGSL text leaves open, declared as `const NAME: u32 = value;` before it.
    pub consts: Vec<(&'static str, u32)>,
}

impl Variant {
    /// A variant of `shader` with entry point `entry`.
    pub fn new(shader: &'static Shader, entry: &'static str, consts: &[(&'static str, u32)]) -> Self {
        Variant { shader, entry, consts: consts.to_vec() }
    }

    /// The complete WGSL, and what it binds.
    ///
    /// # Errors
    /// A text that imports what there is not, or is otherwise not as `gpu/wgsl.rs` wants it.
    pub fn wgsl(&self) -> Result<Wgsl> {
        compose(self.shader, self.entry, &self.consts)
            .map_err(|what| Error::invalid(format!("shader {}: {what}", self.key())))
    }

    /// A name that tells this variant from all others, for labels and caches.
    pub fn key(&self) -> String {
        let mut key = format!("{}/{}", self.shader.name, self.entry);
        for (name, value) in &self.consts {
            key.push_str(&format!(",{name}={value}"));
        }
        key
    }
}

/// A compiled variant.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub key: String,
    pub compute: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// All pipelines of one device.
#[derive(Debug)]
pub(super) struct Pipelines {
    composed: Mutex<HashMap<String, Arc<Wgsl>>>,
    compiled: Mutex<HashMap<String, Arc<Pipeline>>>,
    cache: Option<(wgpu::PipelineCache, PathBuf)>,
    checked: bool,
}

impl Pipelines {
    /// `checked` keeps index and loop checks in the shaders; `cache_file` is where the driver's cache is kept.
    pub fn new(device: &wgpu::Device, checked: bool, cache_file: Option<PathBuf>) -> Self {
        let cache = cache_file.filter(|_| device.features().contains(wgpu::Features::PIPELINE_CACHE)).map(|path| {
            let data = crate::input::read(&path, crate::input::limit::PIPELINES).ok();
            let desc = wgpu::PipelineCacheDescriptor { label: Some("tipi"), data: data.as_deref(), fallback: true };
            // SAFETY: the data comes from `save` of an earlier run; wgpu checks its header against adapter and
            // driver and starts empty when they differ (`fallback`).
            let cache = unsafe { device.create_pipeline_cache(&desc) };
            (cache, path)
        });
        Pipelines { composed: Mutex::default(), compiled: Mutex::default(), cache, checked }
    }

    /// The text of `variant`, put together on first use.
    pub fn wgsl(&self, variant: &Variant) -> Result<Arc<Wgsl>> {
        let mut composed = self.composed.lock().unwrap_or_else(PoisonError::into_inner);
        let key = variant.key();
        if let Some(wgsl) = composed.get(&key) {
            return Ok(wgsl.clone());
        }
        let wgsl = Arc::new(variant.wgsl()?);
        composed.insert(key, wgsl.clone());
        Ok(wgsl)
    }

    /// The pipeline of `variant`, compiled on first use, which `trials` are told of.
    ///
    /// # Errors
    /// A text that the compiler refuses, with files and lines; a variant that ended a program on this device before.
    pub fn get(&self, gpu: (&wgpu::Device, &str), trials: &Trials, variant: &Variant) -> Result<Arc<Pipeline>> {
        let (device, name) = gpu;
        let wgsl = self.wgsl(variant)?;
        let key = variant.key();
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = compiled.get(&key) {
            return Ok(pipeline.clone());
        }
        if trials.leaves_out(&|out| out == key) {
            let file = trials.deadly_file().map(|path| format!("; to try again, remove {}", path.display()));
            let file = file.unwrap_or_default();
            let reason = format!(
                "kernel {key} ended a program here before, and no other does its work; update the driver, or take another \
                 device{file}"
            );
            return Err(Error::Unsupported { device: name.into(), reason });
        }
        trials.begin(variant, &wgsl);
        let trial = (key.as_str(), variant.entry, wgsl.text.as_str(), wgsl.bindings.as_slice());
        let pipeline = self.compile(device, trial).map_err(|error| Error::Gpu(wgsl.located(&error)))?;
        let pipeline = Arc::new(pipeline);
        compiled.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// Compiles a variant, given as its key, entry point, text and what it binds, or tells what the compiler says.
    fn compile(
        &self,
        device: &wgpu::Device,
        (key, entry_point, text, bindings): (&str, &str, &str, &[Binding]),
    ) -> std::result::Result<Pipeline, String> {
        let checks =
            if self.checked { wgpu::ShaderRuntimeChecks::checked() } else { wgpu::ShaderRuntimeChecks::unchecked() };
        let desc =
            wgpu::ShaderModuleDescriptor { label: Some(key), source: wgpu::ShaderSource::Wgsl(Cow::Borrowed(text)) };
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        // SAFETY: every kernel guards its indices by the sizes in its parameter block, which the modules in
        // `kernels` check against the tensors before recording; the tests run with the checks on.
        let module = unsafe { device.create_shader_module_trusted(desc, checks) };
        if let Some(error) = wait::block_on(scope.pop()) {
            return Err(error.to_string());
        }
        let entry = |binding: u32, ty: wgpu::BindingType| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty,
            count: None,
        };
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let mut entries = vec![entry(0, buffer(wgpu::BufferBindingType::Uniform))];
        for binding in bindings {
            let ty = match binding.access {
                Access::Read => buffer(wgpu::BufferBindingType::Storage { read_only: true }),
                Access::Write => buffer(wgpu::BufferBindingType::Storage { read_only: false }),
                Access::ReadTexels | Access::ReadBytes => wgpu::BindingType::Texture {
                    sample_type: match binding.access {
                        Access::ReadBytes => wgpu::TextureSampleType::Sint,
                        _ => wgpu::TextureSampleType::Float { filterable: false },
                    },
                    view_dimension: wgpu::TextureViewDimension::D2,
                    multisampled: false,
                },
                Access::WriteTexels => wgpu::BindingType::StorageTexture {
                    access: wgpu::StorageTextureAccess::WriteOnly,
                    format: wgpu::TextureFormat::Rgba32Float,
                    view_dimension: wgpu::TextureViewDimension::D2,
                },
            };
            entries.push(entry(binding.number, ty));
        }
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(key), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(key),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let compute = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(key),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(entry_point),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: self.cache.as_ref().map(|(cache, _)| cache),
        });
        Ok(Pipeline { key: key.into(), compute, layout })
    }

    /// Compiles a variant again and runs it once on nothing, since some drivers compile no earlier. Whether that went well.
    pub fn attempt(&self, link: &Link, trial: &Trial) -> bool {
        let prepared = link.with(|device, _| self.prepare(device, trial));
        let Some((pipeline, group)) = prepared else { return false };
        let submission = link.submit(|encoder| {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline.compute);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        });
        link.wait(Some(&submission), std::time::Duration::from_secs(60)).is_ok()
    }

    /// The variant's pipeline, and nothing for it to work on.
    fn prepare(&self, device: &wgpu::Device, trial: &Trial) -> Option<(Pipeline, wgpu::BindGroup)> {
        let described = (trial.key.as_str(), trial.entry.as_str(), trial.text.as_str(), trial.bindings.as_slice());
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let pipeline = self.compile(device, described).ok()?;
        let buffer = |size: u64, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        // Sizes of zero: whatever the kernel is, it has nothing to do.
        let params = buffer(256, wgpu::BufferUsages::UNIFORM);
        let memory: Vec<Memory> = (trial.bindings.iter())
            .map(|binding| match binding.access {
                Access::Read | Access::Write => Memory::Buffer(buffer(1 << 16, wgpu::BufferUsages::STORAGE)),
                Access::ReadTexels | Access::WriteTexels => memory::texture(device, "nothing", (4, 4), 16),
                Access::ReadBytes => memory::texture(device, "nothing", (4, 4), 4),
            })
            .collect();
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: params.as_entire_binding() }];
        for (binding, memory) in trial.bindings.iter().zip(&memory) {
            let resource = match memory {
                Memory::Buffer(buffer) => buffer.as_entire_binding(),
                Memory::Texture(_, view) => wgpu::BindingResource::TextureView(view),
            };
            entries.push(wgpu::BindGroupEntry { binding: binding.number, resource });
        }
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        wait::block_on(scope.pop()).is_none().then_some((pipeline, group))
    }

    /// Writes the driver's cache to disk, through a temporary file. A failure only costs the next start some time,
    /// so it is logged, not returned.
    pub fn save(&self) {
        let Some((cache, path)) = &self.cache else { return };
        let Some(data) = cache.get_data() else { return };
        if let Err(error) = write_cache(path, &data) {
            tracing::debug!("pipeline cache {} not kept: {error}", path.display());
        }
    }
}
