//! Every shader variant passes naga's validator and translates to SPIR-V, MSL and HLSL, without any GPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use tipi::kernels;

/// SPIR-V 1.3 is what Vulkan 1.1 reads, and the first with subgroups.
fn spv_options() -> spv::Options<'static> {
    spv::Options { lang_version: (1, 3), ..Default::default() }
}

/// Parses, validates and translates one entry point; the error names the stage that refused it.
fn translate(wgsl: &str, entry: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| format!("WGSL: {}", e.emit_to_string(wgsl)))?;
    // What some variants ask for; they are chosen only where it is there.
    let matrices = wgsl.contains("enable wgpu_cooperative_matrix;");
    let mut capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if matrices {
        capabilities |= Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
    }
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|e| format!("validation: {}", e.emit_to_string(wgsl)))?;
    let stage = naga::ShaderStage::Compute;

    let pipeline = spv::PipelineOptions { shader_stage: stage, entry_point: entry.into() };
    let words = spv::write_vec(&module, &info, &spv_options(), Some(&pipeline)).map_err(|e| format!("SPIR-V: {e}"))?;
    if words.first() != Some(&0x0723_0203) {
        return Err("SPIR-V: no magic number".into());
    }

    let pipeline = msl::PipelineOptions { entry_point: Some((stage, entry.into())), ..Default::default() };
    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let (text, translated) = msl::write_string(&module, &info, &options, &pipeline).map_err(|e| format!("MSL: {e}"))?;
    if translated.entry_point_names.len() != 1 {
        return Err("MSL: not one entry point".into());
    }
    for name in translated.entry_point_names {
        let name = name.map_err(|e| format!("MSL: {e}"))?;
        if !text.contains(&format!("kernel void {name}")) {
            return Err(format!("MSL: no kernel {name}"));
        }
    }

    if matrices {
        // DX12 has no cooperative matrices, and naga no HLSL for them.
        return Ok(());
    }
    let pipeline = hlsl::PipelineOptions { entry_point: Some((stage, entry.into())) };
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
    let mut text = String::new();
    let reflected = hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(&module, &info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
    if reflected.entry_point_names.len() != 1 {
        return Err("HLSL: not one entry point".into());
    }
    for name in reflected.entry_point_names {
        let name = name.map_err(|e| format!("HLSL: {e}"))?;
        if !text.contains(&format!("void {name}(")) {
            return Err(format!("HLSL: no entry point {name}"));
        }
    }
    Ok(())
}

#[test]
fn every_variant_validates_and_translates() {
    let variants = kernels::variants();
    assert!(variants.len() > 100, "only {} variants", variants.len());
    for variant in variants {
        if let Err(error) = translate(&variant.wgsl(), variant.entry) {
            panic!("{}: {error}", variant.key());
        }
    }
}

#[test]
fn variants_have_names_of_their_own() {
    let mut keys: Vec<_> = kernels::variants().iter().map(|v| v.key()).collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

/// What `translate` must refuse: each planted in a shader that is sound without it.
#[test]
fn unsound_shaders_are_refused() {
    let sound = kernels::variants().into_iter().find(|v| v.key() == "softmax/forward").unwrap();
    let text = sound.wgsl();
    assert_eq!(translate(&text, sound.entry), Ok(()));
    let plant = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is no longer in the shader: plant another error");
        text.replacen(from, to, 1)
    };
    for (what, planted) in [
        ("syntax", plant("var sum = 0.0;", "var sum = ;")),
        ("type", plant("var sum = 0.0;", "var sum = 0u;")),
        ("unknown name", plant("exp(", "expp(")),
        ("missing helper", plant("fn total(", "fn summed(")),
        ("write to a read-only binding", plant("y[at + i] =", "x[at + i] =")),
        ("two variables on one binding", plant("@binding(1)", "@binding(2)")),
    ] {
        assert!(translate(&planted, sound.entry).is_err(), "{what} passed");
    }
    assert!(translate(&text, "no_such_entry").is_err(), "an entry point that is not there passed");
}

#[test]
fn variants_cover_every_file() {
    let variants = kernels::variants();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(variants.iter().any(|v| v.shader.source.contains(&text)), "{} is in no variant", path.display());
            files += 1;
        }
    }
    assert!(files > 0);
}

/// Each compute entry point of each shader is listed, and the bindings that the host declares are those of the text.
#[test]
fn variants_cover_every_entry_point_and_declare_the_bindings_right() {
    use tipi::gpu::Access;
    let variants = kernels::variants();
    for variant in &variants {
        let text = variant.wgsl();
        let module = naga::front::wgsl::parse_str(&text).unwrap();
        for entry in &module.entry_points {
            let listed = variants.iter().any(|v| v.shader.name == variant.shader.name && v.entry == entry.name);
            assert!(listed, "{}: entry point {} is in no variant", variant.shader.name, entry.name);
        }
        let mut storage: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, v)| match v.space {
                naga::AddressSpace::Storage { access } => {
                    let written = access.contains(naga::StorageAccess::STORE);
                    let binding = v.binding.as_ref().unwrap().binding;
                    Some((binding, if written { Access::Write } else { Access::Read }))
                }
                naga::AddressSpace::Handle => {
                    let binding = v.binding.as_ref().unwrap().binding;
                    let naga::TypeInner::Image { class, .. } = &module.types[v.ty].inner else {
                        panic!("{}: binding {binding} is neither buffer nor texture", variant.key());
                    };
                    let stored = matches!(class, naga::ImageClass::Storage { .. });
                    Some((binding, if stored { Access::WriteTexels } else { Access::ReadTexels }))
                }
                _ => None,
            })
            .collect();
        storage.sort_by_key(|(binding, _)| *binding);
        let declared: Vec<_> = (1..).zip(variant.shader.access.iter().copied()).collect();
        assert_eq!(storage, declared, "{}", variant.key());
    }
}
