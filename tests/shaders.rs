//! Every shader variant passes naga's validator and translates to SPIR-V, MSL and HLSL, without any GPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use tipi::low_level::gpu::{Matrices, Shader, Variant};
use tipi::low_level::kernels::{self, gemm::Kernel};

fn text(variant: &Variant) -> String {
    variant.wgsl().unwrap().text
}

/// SPIR-V 1.3 is what Vulkan 1.1 reads, and the first with subgroups.
fn spv_options() -> spv::Options<'static> {
    spv::Options { lang_version: (1, 3), ..Default::default() }
}

/// What one entry point comes to.
struct Translated {
    spirv: Vec<u32>,
    /// The text and its entry point's name, for the compiler that any Windows has; none for what only newer ones know.
    hlsl: Option<(String, String)>,
}

/// Shader model 5.1 is what the compiler that is part of Windows reads. The checks are left out, as in release builds.
fn plain_hlsl() -> hlsl::Options {
    hlsl::Options {
        shader_model: hlsl::ShaderModel::V5_1,
        restrict_indexing: false,
        force_loop_bounding: false,
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    }
}

/// Parses, validates and translates one entry point; the error names the stage that refused it.
fn translate(wgsl: &str, entry: &str) -> Result<Translated, String> {
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

    let mut translated = Translated { spirv: words, hlsl: None };
    if matrices {
        // DX12 has no cooperative matrices, and naga no HLSL for them.
        return Ok(translated);
    }
    let write = |options: hlsl::Options| {
        let pipeline = hlsl::PipelineOptions { entry_point: Some((stage, entry.into())) };
        let mut text = String::new();
        let reflected = hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .map_err(|e| format!("HLSL: {e}"))?;
        let [Ok(name)] = &reflected.entry_point_names[..] else { return Err("HLSL: not one entry point".into()) };
        if !text.contains(&format!("void {name}(")) {
            return Err(format!("HLSL: no entry point {name}"));
        }
        Ok((text, name.clone()))
    };
    write(hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() })?;
    if !wgsl.lines().any(|line| line.split("//").next().is_some_and(|code| code.contains("subgroup"))) {
        translated.hlsl = Some(write(plain_hlsl())?);
    }
    Ok(translated)
}

#[test]
fn every_variant_validates_and_translates() {
    let variants = kernels::variants();
    assert!(variants.len() > 100, "only {} variants", variants.len());
    for variant in variants {
        if let Err(error) = translate(&text(&variant), variant.entry) {
            panic!("{}: {error}", variant.key());
        }
    }
}

/// Writes every variant to the folder in `TIPI_SHADERS`: its WGSL, its SPIR-V (to compare before and after a change that must
/// not change what is computed), the HLSL of those that need no subgroups, and a list of all. For `scripts/drivers`.
#[test]
#[ignore = "writes files"]
fn write_shaders() {
    let dir = std::path::PathBuf::from(std::env::var_os("TIPI_SHADERS").expect("TIPI_SHADERS names a folder"));
    std::fs::create_dir_all(&dir).unwrap();
    let mut list = Vec::new();
    for variant in kernels::variants() {
        let wgsl = variant.wgsl().unwrap();
        let translated = translate(&wgsl.text, variant.entry).unwrap();
        let file = variant.key().replace('/', ".");
        let write = |kind: &str, bytes: &[u8]| std::fs::write(dir.join(format!("{file}.{kind}")), bytes).unwrap();
        write("wgsl", wgsl.text.as_bytes());
        write("spv", &translated.spirv.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>());
        if let Some((text, _)) = &translated.hlsl {
            write("hlsl", text.as_bytes());
        }
        list.push(serde_json::json!({
            "key": variant.key(), "file": file, "shader": variant.shader.name, "entry": variant.entry,
            "bindings": wgsl.bindings.iter().map(|b| (b.number, format!("{:?}", b.access))).collect::<Vec<_>>(),
            "hlsl_entry": translated.hlsl.map(|(_, name)| name),
        }));
    }
    std::fs::write(dir.join("list.json"), serde_json::to_string_pretty(&list).unwrap()).unwrap();
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
    let text = text(&sound);
    assert!(translate(&text, sound.entry).is_ok());
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
        ("two variables on one binding", plant("@binding(1)", "@binding(4)")),
    ] {
        assert!(translate(&planted, sound.entry).is_err(), "{what} passed");
    }
    assert!(translate(&text, "no_such_entry").is_err(), "an entry point that is not there passed");
}

#[test]
fn variants_cover_every_file() {
    let used: BTreeSet<_> = kernels::variants().iter().flat_map(|v| v.wgsl().unwrap().texts()).collect();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(used.contains(name), "{} is in no variant", path.display());
            files += 1;
        }
    }
    assert_eq!(files, used.len());
}

/// Each compute entry point of each shader is listed, and what a variant is said to bind is what its entry point uses.
#[test]
fn variants_cover_every_entry_point_and_bind_what_it_uses() {
    use tipi::low_level::gpu::Access;
    let variants = kernels::variants();
    for variant in &variants {
        let wgsl = variant.wgsl().unwrap();
        let module = naga::front::wgsl::parse_str(&wgsl.text).unwrap();
        for entry in &module.entry_points {
            let listed = variants.iter().any(|v| v.shader.name == variant.shader.name && v.entry == entry.name);
            assert!(listed, "{}: entry point {} is in no variant", variant.shader.name, entry.name);
        }
        let entry = module.entry_points.iter().position(|e| e.name == variant.entry).unwrap();
        let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).unwrap();
        let used = module.global_variables.iter().filter(|(v, _)| !info.get_entry_point(entry)[*v].is_empty());
        let mut used: Vec<_> = used
            .filter_map(|(_, v)| {
                let access = match v.space {
                    naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                        Access::Write
                    }
                    naga::AddressSpace::Storage { .. } => Access::Read,
                    naga::AddressSpace::Handle => match module.types[v.ty].inner {
                        naga::TypeInner::Image { class: naga::ImageClass::Storage { .. }, .. } => Access::WriteTexels,
                        naga::TypeInner::Image {
                            class: naga::ImageClass::Sampled { kind: naga::ScalarKind::Sint, .. },
                            ..
                        } => Access::ReadBytes,
                        _ => Access::ReadTexels,
                    },
                    _ => return None,
                };
                Some((v.binding.unwrap().binding, v.name.clone().unwrap(), access))
            })
            .collect();
        used.sort_by_key(|(number, ..)| *number);
        let said: Vec<_> = wgsl.bindings.into_iter().map(|b| (b.number, b.name, b.access)).collect();
        assert_eq!(said, used, "{}", variant.key());
    }
}

/// A shader of a test's own, and what it comes to with the constant N = 2.
fn composed(texts: &[(&'static str, &'static str)]) -> tipi::Result<tipi::low_level::gpu::Wgsl> {
    let texts: &'static [_] = Box::leak(texts.to_vec().into_boxed_slice());
    let shader = Box::leak(Box::new(Shader { name: "test", text: texts[0].0, texts, instead: &[("other", "b")] }));
    Variant::new(shader, "main", &[("N", 2), ("OFF", 0)]).wgsl()
}

#[test]
fn texts_are_put_together_as_they_say() {
    let a = "enable f16;\n//# import b, c, other\nfn main() {\n    b();\n    //# if OFF\n    x[0] = 1;\n    //# else\n    \
             y[0] = 1;\n    //# end\n}\n@group(0) @binding(7) var<storage, read> x: array<u32>;";
    let b = "//# import c\n@group(0) @binding(3) var z: texture_2d<f32>;\nfn b() { c(z, a.x); }";
    let c = "enable f16;\n@group(0) @binding(9) var<storage, read_write> y: array<u32>; // x\nfn c() {}\nfn x() {}";
    let wgsl = composed(&[("a", a), ("b", b), ("c", c)]).unwrap();
    let expected = "enable f16;\nconst N: u32 = 2u;\nconst OFF: u32 = 0u;\nfn main() {\n    b();\n    y[0] = 1;\n}\n\
                    @group(0) @binding(7) var<storage, read> x: array<u32>;\n\
                    @group(0) @binding(3) var z: texture_2d<f32>;\nfn b() { c(z, a.x); }\n\
                    @group(0) @binding(9) var<storage, read_write> y: array<u32>; // x\nfn c() {}\nfn x() {}\n";
    assert_eq!(wgsl.text, expected);
    assert_eq!(wgsl.bindings.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["z", "y"]);

    let loops = "const M: u32 = 3u;\nfn main() {\n    //# unroll\n    for (var i = 1u; i < M; i++) {\n        //# unroll\n        \
                 for (var j = 0u; j < N; j++) {\n            s[i * j].i = ii; // i\n        }\n        let x = i8 + 1i;\n    }\n}";
    let written = |i: u32| {
        format!(
            "{{\n            s[{i}u * 0u].{i}u = ii; // i\n            s[{i}u * 1u].{i}u = ii; // i\n        let x = i8 + 1i;\n}}\n"
        )
    };
    let text = composed(&[("a", loops)]).unwrap().text;
    assert!(text.ends_with(&format!("fn main() {{\n{}{}}}\n", written(1), written(2))), "{text}");
}

#[test]
fn texts_that_cannot_be_put_together_are_refused_with_their_place() {
    for (what, text) in [
        ("a.wgsl:1: there is no text 'd'", "//# import d\nfn main() {}"),
        ("a.wgsl:2: no constant", "fn main() {}\n//# if M\n//# end"),
        ("a.wgsl: 'if' without 'end'", "fn main() {}\n//# if N"),
        ("a.wgsl:1: 'end' without", "//# end\nfn main() {}"),
        ("a.wgsl:2: 'else' without", "fn main() {}\n//# else"),
        ("a.wgsl:1: 'unrol' is none", "//# unrol\nfn main() {}"),
        ("a.wgsl:2: 'unroll' wants", "fn main() {\n//# unroll\nfor (var i = 0u; i < p.n; i++) {\n}\n}"),
        ("a.wgsl:2: the loop to unroll has no end", "fn main() {\n//# unroll\nfor (var i = 0u; i < N; i++) {"),
        ("there is no entry point 'main'", "fn other() {}"),
        ("a.wgsl:1: not the form", "@group(0) @binding(1) var<private> x: u32;\nfn main() {}"),
    ] {
        let error = composed(&[("a", text)]).unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
}

/// What a compiler says has files and lines, behind imports and unrolled loops.
#[test]
fn errors_of_compilers_name_files_and_lines() {
    let a = "//# import b\nfn main() {\n    //# unroll\n    for (var i = 0u; i < 9u; i++) {\n        let x = i;\n    }\n    b();\n}";
    let b = "// A comment.\n\nfn b() {\n    let wrong = undeclared;\n}";
    let wgsl = composed(&[("a", a), ("b", b)]).unwrap();
    let error = naga::front::wgsl::parse_str(&wgsl.text).unwrap_err().emit_to_string(&wgsl.text);
    let located = wgsl.located(&error);
    assert!(located.contains("┌─ b.wgsl:4:17"), "{located}");
    assert!(located.lines().any(|l| l.trim_start().starts_with("4 │") && l.contains("undeclared")), "{located}");
}

/// What a GEMM kernel wants of a device is what its text takes: workgroup memory and invocations.
#[test]
fn gemm_kernels_want_what_their_texts_take() {
    for variant in kernels::variants().iter().filter(|v| v.shader.name.starts_with("gemm_")) {
        let (_, rows) = variant.consts.iter().find(|(name, _)| *name == "TILE_M").unwrap();
        let wide = variant.consts.iter().any(|(name, value)| *name == "WIDE" && *value == 1);
        let matrix = if wide { Kernel::MatrixWide } else { Kernel::Matrix };
        let (kernel, matrices) = match (variant.shader.name, rows) {
            ("gemm_tile", 64) => (Kernel::Tile, None),
            ("gemm_tile", 128) => (Kernel::Wide, None),
            ("gemm_tile", 16) => (Kernel::Thin, None),
            ("gemm_matrix16", _) => (matrix, Some(Matrices::Square16)),
            ("gemm_matrix8_half", _) => (matrix, Some(Matrices::Half8)),
            ("gemm_matrix8", _) => (matrix, Some(Matrices::Square8)),
            ("gemm_rows", _) => (Kernel::Rows, None),
            ("gemm_subgroup", _) => (Kernel::Subgroup, None),
            ("gemm_texel", _) => (Kernel::Texel, None),
            other => panic!("{other:?} is no kernel"),
        };
        let module = naga::front::wgsl::parse_str(&text(variant)).unwrap();
        let size = |v: &naga::GlobalVariable| module.types[v.ty].inner.size(module.to_ctx());
        let shared = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
        let memory: u32 = shared.map(|(_, v)| size(v)).sum();
        let invocations: u32 = module.entry_points[0].workgroup_size.iter().product();
        let runs = |workgroup_memory, invocations| {
            kernel.runs_on(&tipi::low_level::gpu::Capabilities {
                cpu: false,
                subgroups: Some((8, 8)),
                f16: true,
                matrices,
                texture: 16384,
                workgroup_memory,
                invocations,
            })
        };
        assert!(runs(memory, invocations), "{}: {memory} bytes", variant.key());
        assert!(memory == 0 || !runs(memory - 1, invocations), "{}: {memory} bytes", variant.key());
        assert!(!runs(memory, invocations - 1), "{}: {invocations} invocations", variant.key());
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
        if let Err(error) = mixed_operators(&text(&variant)) {
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

/// Whether a loop's condition compares with a constant. The lesser of one and something else would do where wgpu bounds loops
/// by itself, which it does not in release builds.
fn is_bounded(function: &naga::Function, body: &naga::Block) -> bool {
    use naga::Expression;
    function.expressions.iter().any(|(handle, e)| {
        let Expression::Binary { op: naga::BinaryOperator::Less, right, .. } = e else { return false };
        let condition =
            |s: &naga::Statement| matches!(s, naga::Statement::If { condition, .. } if *condition == handle);
        body.iter().any(condition)
            && matches!(function.expressions[*right], Expression::Literal(_) | Expression::Constant(_))
    })
}

#[test]
fn loops_over_the_parts_of_vectors_say_where_they_end() {
    for variant in kernels::variants() {
        let module = naga::front::wgsl::parse_str(&text(&variant)).unwrap();
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
    assert!(with("j < 4u").is_ok());
    assert!(with("j < x[7]").is_err() && with("j < min(4u, x[7])").is_err(), "an unbounded loop passed");
}
