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

/// What the grammar of WGSL says about operators side by side, and naga lets pass: bitwise operators take nothing but their
/// own kind and what stands in brackets, shifts take no arithmetic, comparisons do not follow one another, and && and || do
/// not mix. The first breach, as an error. Comparisons have spaces around them here, brackets of types have none.
fn mixed_operators(wgsl: &str) -> Result<(), String> {
    for (number, line) in wgsl.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        // The kinds of operators met so far, at each depth of brackets.
        let mut open: Vec<Vec<&str>> = vec![Vec::new()];
        let spaced = code.replace(['(', '['], " ( ").replace([')', ']'], " ) ").replace([',', ';', '{', '}'], " ; ");
        for token in spaced.split_whitespace() {
            let kind = match token {
                "(" => {
                    open.push(Vec::new());
                    continue;
                }
                ")" => {
                    open.pop();
                    continue;
                }
                ";" | "=" | "return" | "if" | "while" => {
                    open.last_mut().into_iter().for_each(Vec::clear);
                    continue;
                }
                "&" | "|" | "^" | "&&" | "||" => token,
                "<<" | ">>" => "shift",
                "+" | "-" | "*" | "/" | "%" => "arithmetic",
                "<" | ">" | "<=" | ">=" | "==" | "!=" => "comparison",
                _ => continue,
            };
            let Some(before) = open.last_mut() else { return Err(format!("line {}: brackets", number + 1)) };
            let bitwise = |kind: &str| ["&", "|", "^"].contains(&kind);
            for other in before.iter() {
                let both = [kind, other];
                let mixed = bitwise(kind) != bitwise(other)
                    || (bitwise(kind) && kind != *other)
                    || (both.contains(&"shift") && (both.contains(&"arithmetic") || kind == *other))
                    || both == ["comparison", "comparison"]
                    || (both.contains(&"&&") && both.contains(&"||"));
                if mixed {
                    return Err(format!("line {}: '{kind}' beside '{other}' without brackets: {line}", number + 1));
                }
            }
            // What stands between && or || is by itself.
            if ["&&", "||"].contains(&kind) {
                before.retain(|k| ["&&", "||"].contains(k));
            }
            before.push(kind);
        }
    }
    Ok(())
}

#[test]
fn operators_are_mixed_as_the_grammar_allows() {
    for variant in kernels::variants() {
        if let Err(error) = mixed_operators(&variant.wgsl()) {
            panic!("{}: {error}", variant.key());
        }
    }
    for sound in [
        "let a = (x < y) & (z >= w);",
        "if a < b && c + 1u >= d || e { }",
        "let m = a ^ b ^ c;",
        "if (a && b) || c { }",
        "let s = f(a < b, c & d) + (e >> 3u);",
    ] {
        let allowed = mixed_operators(sound);
        // One of them mixes && and || after all.
        assert_eq!(allowed.is_ok(), !sound.contains("|| e"), "{sound}: {allowed:?}");
    }
    for wrong in [
        "let low = number < vec4<u32>(queries) & (number >= vec4<u32>(skipped));",
        "let a = x & 3u == 0u;",
        "let a = x | y & z;",
        "let a = x << 2u + y;",
        "let a = x << 1u << 2u;",
        "let a = x + y >> 2u;",
        "if a < b < c { }",
        "if a && b || c { }",
    ] {
        assert!(mixed_operators(wrong).is_err(), "{wrong} passed");
    }
}

/// Loops that set one part of a vector by a number that varies: HLSL has no such store, so FXC unrolls them, and must see
/// from the condition that there are few turns. The name of the function where it cannot.
fn endless_parts(module: &naga::Module) -> Result<(), String> {
    let entries = module.entry_points.iter().map(|entry| (&entry.name, &entry.function));
    let named = module.functions.iter().map(|(_, f)| (f.name.as_ref(), f));
    for (name, function) in entries.map(|(n, f)| (Some(n), f)).chain(named) {
        unbounded_loops(module, function, &function.body)
            .map_err(|what| format!("{}: {what}", name.map_or("a function", String::as_str)))?;
    }
    Ok(())
}

fn unbounded_loops(module: &naga::Module, function: &naga::Function, block: &naga::Block) -> Result<(), String> {
    for statement in block {
        if let naga::Statement::Loop { body, .. } = statement
            && sets_a_part(module, function, body)
            && !is_bounded(function, body)
        {
            return Err("a loop sets part after part of a vector, and nothing but data says where it ends".into());
        }
        for inner in inner_blocks(statement) {
            unbounded_loops(module, function, inner)?;
        }
    }
    Ok(())
}

fn inner_blocks(statement: &naga::Statement) -> Vec<&naga::Block> {
    match statement {
        naga::Statement::Block(block) => vec![block],
        naga::Statement::If { accept, reject, .. } => vec![accept, reject],
        naga::Statement::Switch { cases, .. } => cases.iter().map(|case| &case.body).collect(),
        naga::Statement::Loop { body, continuing, .. } => vec![body, continuing],
        _ => vec![],
    }
}

/// Whether a block, without the loops inside it, stores to a vector of this function by an index that varies.
fn sets_a_part(module: &naga::Module, function: &naga::Function, block: &naga::Block) -> bool {
    block.iter().any(|statement| match statement {
        naga::Statement::Store { pointer, .. } => match function.expressions[*pointer] {
            naga::Expression::Access { base, .. } => match function.expressions[base] {
                naga::Expression::LocalVariable(local) => {
                    let ty = &module.types[function.local_variables[local].ty].inner;
                    matches!(ty, naga::TypeInner::Vector { .. })
                }
                _ => false,
            },
            _ => false,
        },
        naga::Statement::Loop { .. } => false,
        other => inner_blocks(other).into_iter().any(|inner| sets_a_part(module, function, inner)),
    })
}

/// Whether a loop's condition compares with a constant, or with the lesser of one and something else.
fn is_bounded(function: &naga::Function, body: &naga::Block) -> bool {
    use naga::{Expression, MathFunction};
    let constant = |e: &naga::Expression| matches!(e, Expression::Literal(_) | Expression::Constant(_));
    function.expressions.iter().any(|(handle, e)| {
        let Expression::Binary { op: naga::BinaryOperator::Less, right, .. } = e else { return false };
        let condition =
            |s: &naga::Statement| matches!(s, naga::Statement::If { condition, .. } if *condition == handle);
        body.iter().any(condition)
            && match &function.expressions[*right] {
                Expression::Math { fun: MathFunction::Min, arg, arg1, .. } => {
                    let args = [Some(*arg), *arg1];
                    args.into_iter().flatten().any(|arg| constant(&function.expressions[arg]))
                }
                other => constant(other),
            }
    })
}

#[test]
fn loops_over_the_parts_of_vectors_say_where_they_end() {
    for variant in kernels::variants() {
        let module = naga::front::wgsl::parse_str(&variant.wgsl()).unwrap();
        if let Err(error) = endless_parts(&module) {
            panic!("{}: {error}", variant.key());
        }
    }
    let with = |condition: &str| {
        let text = format!(
            "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
            @compute @workgroup_size(1) fn main() {{
                var v = vec4<u32>();
                for (var j = 1u; {condition}; j++) {{ v[j] = x[j]; }}
                x[0] = v.x + v.y;
            }}"
        );
        endless_parts(&naga::front::wgsl::parse_str(&text).unwrap())
    };
    assert!(with("j < 4u").is_ok() && with("j < min(4u, x[7])").is_ok() && with("j < min(x[7], 4u)").is_ok());
    assert!(with("j < x[7]").is_err() && with("j < max(4u, x[7])").is_err(), "an unbounded loop passed");
}
