//! GPU memory itself: buffers and textures, and how they are made.

use super::arena::Extent;
use super::wait;
use crate::{Error, Result};

/// Buffers are rounded up to this many bytes, so that near-equal sizes share.
const GRAIN: u64 = 256;

/// A buffer, or a texture with the view that kernels bind.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    Buffer(wgpu::Buffer),
    Texture(wgpu::Texture, wgpu::TextureView),
}

/// The size a request for a buffer of `bytes` is served with.
pub(super) fn rounded(bytes: u64) -> u64 {
    bytes.max(4).div_ceil(GRAIN) * GRAIN
}

/// Bytes that new memory of this extent takes.
pub(super) fn size(extent: Extent) -> u64 {
    match extent {
        Extent::Bytes(bytes) => rounded(bytes),
        Extent::Texels(..) => extent.bytes(),
    }
}

impl Memory {
    /// New memory, for a buffer of at most `most` bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the driver has no more.
    pub fn new(device: &wgpu::Device, what: &str, extent: Extent, most: u64) -> Result<Memory> {
        let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let memory = match extent {
            Extent::Bytes(bytes) => buffer(device, what, rounded(bytes).min(most)),
            Extent::Texels(width, height, texel) => texture(device, what, (width, height), texel),
        };
        if wait::block_on(scope.pop()).is_some() {
            let why = "the driver has no more".into();
            return Err(Error::OutOfMemory { what: what.into(), needed: extent.bytes(), why });
        }
        Ok(memory)
    }

    /// What fits into it.
    pub fn extent(&self) -> Extent {
        match self {
            Memory::Buffer(buffer) => Extent::Bytes(buffer.size()),
            Memory::Texture(texture, _) => {
                let texel = match texture.format() {
                    wgpu::TextureFormat::Rgba8Sint => 4,
                    wgpu::TextureFormat::Rgba16Float => 8,
                    _ => 16,
                };
                Extent::Texels(texture.width(), texture.height(), texel)
            }
        }
    }
}

fn buffer(device: &wgpu::Device, what: &str, size: u64) -> Memory {
    Memory::Buffer(device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(what),
        size,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    }))
}

pub(super) fn texture(device: &wgpu::Device, what: &str, (width, height): (u32, u32), texel: u32) -> Memory {
    let texture = device.create_texture(&wgpu::TextureDescriptor {
        label: Some(what),
        size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: match texel {
            4 => wgpu::TextureFormat::Rgba8Sint,
            8 => wgpu::TextureFormat::Rgba16Float,
            _ => wgpu::TextureFormat::Rgba32Float,
        },
        usage: wgpu::TextureUsages::TEXTURE_BINDING
            | wgpu::TextureUsages::STORAGE_BINDING
            | wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    });
    let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
    Memory::Texture(texture, view)
}
