//! `tipi fit METHOD --multi-label`: pictures that may have several labels each.

use anyhow::Result;
use tipi::Error;
use tipi::low_level::adapt::adapter_file::{self, Adapter, Description, File, Meta};
use tipi::low_level::adapt::evidence::Calibration;
use tipi::low_level::adapt::multi_label::{self, LEAST};
use tipi::low_level::adapt::tip::TipParams;
use tipi::low_level::adapt::{Choice, Lesson, Texts, learn, method};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Item, Several, WORDS, decode_map};
use tipi::low_level::encode::Direct;
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::text;

use super::MethodArgs;
use crate::bars::Bars;
use crate::terminal::note;
use crate::{common, labels, options, stop, ui};

/// The methods whose logits are sums over a label's own pictures, so that each label can be told by itself.
const SUITED: [&str; 2] = ["tip-adapter", "tip-adapter++"];
/// How many labels are named that have too few pictures.
const NAMED: usize = 5;

/// The labels that `--labels-file` declares.
fn declared(args: &MethodArgs) -> Result<Option<Vec<String>>> {
    let Some(path) = &args.common.labels_file else { return Ok(None) };
    let all = labels::of_file(path)?;
    if let Some(label) = all.iter().find(|label| !label.prompts.is_empty()) {
        let reason = format!("the label '{}' has prompts of its own, and fit takes --template for all", label.name);
        return Err(Error::data(path, reason).into());
    }
    Ok(Some(all.into_iter().map(|label| label.name).collect()))
}

/// Fits.
pub fn fit(args: &MethodArgs) -> Result<()> {
    let shared = &args.common;
    let name = args.method.info().name;
    if !SUITED.contains(&name) {
        let reason = format!("{name} cannot tell several labels of a picture: take tip-adapter");
        return Err(Error::Invalid(format!("--multi-label: {reason}")).into());
    }
    if shared.data.is_dir() {
        let reason = "--multi-label takes a CSV file with the columns path,label or path,label,split";
        return Err(Error::data(&shared.data, reason).into());
    }
    let mut settings = method::settled(args.method, &args.settings);
    if let Ok(settings) = &mut settings
        && ["alpha", "beta"].iter().all(|name| settings.get(*name).is_none_or(serde_json::Value::is_null))
    {
        // Nothing is right or wrong as a whole here, so there is no grid to search.
        settings.insert("alpha".into(), TipParams::INITIAL.alpha.into());
        settings.insert("beta".into(), TipParams::INITIAL.beta.into());
    }
    let settings = settings.map_err(|error| options::translated(args.method, &error))?;
    let output = shared.output()?;
    args.correction.iter().try_for_each(|path| output.reads(path, "a correction"))?;
    let file = args.correction.as_ref().map(|path| File::open(path)).transpose()?;
    let set = Several::open(&shared.data, declared(args)?.as_deref())?;
    output.reads(&shared.data, "a list of pictures")?;
    set.pictures.iter().try_for_each(|(path, _)| output.reads(path, "a picture"))?;
    let model = shared.lora.source(&shared.model)?;
    common::read_model(&output, &model)?;
    let items: Vec<Item> = set.pictures.iter().map(|(path, _)| Item { path: path.clone(), label: 0 }).collect();
    let bar = ui::bar(items.len(), "checking pictures");
    let checked = decode_map(&items, shared.pictures.strict, &|n| bar.set_position(n as u64), |_, _| ())?;
    bar.finish_and_clear();
    common::report_skipped(&checked.skipped);
    let sound: std::collections::HashSet<_> = checked.items.iter().map(|(item, ())| item.path.as_path()).collect();
    let set = set.only(&shared.data, |path| sound.contains(path))?.choose(shared.shots, shared.seed)?;
    let gpu = shared.gpu.open()?;
    let clip = shared.pictures.depth.of(Clip::load_source(&gpu, &model, Precision::F32)?);
    common::announce(&gpu);
    let correction = file.map(|file| common::correction(&file, &clip)).transpose()?;
    let templates = match args.templates.is_empty() {
        true => vec![tipi::low_level::data::TEMPLATE.to_string()],
        false => args.templates.clone(),
    };
    let texts = Texts { classes: &set.classes, templates: &templates, words: WORDS, dataset: "" };
    let support = multi_label::by_label(&set.pictures);
    let choice = Choice { support: &support, val: &[], seed: shared.seed };
    let bottlenecks = correction.as_ref().map(|correction| &correction.blocks[..]);
    let mut source = Direct::new(&clip, bottlenecks, shared.pictures.batch());
    let mut lesson = Lesson::new(&clip, texts, choice, &args.how, (correction.as_ref(), &mut source))?;
    stop::listen();
    let mut bars = Bars::new();
    let learned = learn(args.method, &settings, &mut lesson, &mut bars)?;
    let facts = learned.fitted.facts();
    let params = TipParams { alpha: facts.alpha.unwrap_or_default(), beta: facts.beta.unwrap_or_default() };
    let chosen = multi_label::thresholds(&mut lesson, (&*learned.fitted, params), &set.pictures, &mut bars);
    bars.clear();
    let chosen = chosen?;
    let (pictures, count) = (set.pictures.len(), set.classes.len());
    note!("{name}: {} of {}", text::count(pictures, "picture", "pictures"), text::count(count, "label", "labels"));
    if !chosen.few.is_empty() {
        let names: Vec<&str> = chosen.few.iter().take(NAMED).map(|label| set.classes[*label].as_str()).collect();
        let more = if chosen.few.len() > NAMED { ", …" } else { "" };
        let (has, it, gets) = if chosen.few.len() == 1 { ("has", "it", "gets") } else { ("have", "them", "get") };
        note!(
            "{} of {count} labels {has} fewer than {LEAST} pictures with or without {it}, and {gets} the threshold of all together \
             ({}{more})",
            chosen.few.len(),
            names.join(", ")
        );
    }
    note!("thresholds chosen on these pictures, each scored without its own key: F1 {:.3}", chosen.f1);
    let description = Description::new(learned.method.info().name, &*learned.fitted)?;
    let meta = Meta::new(&clip, &set.classes, description, shared.shots.number(), shared.seed)?;
    let meta = meta.with_thresholds(chosen.each);
    let bytes =
        adapter_file::to_bytes(output.path(), &clip, &meta, &Adapter::Method(learned.fitted, Calibration::default()))?;
    let name = output.name();
    output.write(&bytes)?;
    note!("wrote {name}");
    common::finish(&gpu);
    Ok(())
}
