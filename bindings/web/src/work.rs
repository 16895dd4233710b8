//! What is asked for, done through the library's door.

use std::cell::RefCell;
use std::collections::BTreeMap;

use js_sys::{Array, Float32Array, Float64Array, Uint8Array};
use tipi::{
    Classifier, Correction, DeviceOptions, Error, Examples, FitOptions, Gpu, Method, Model, Precision, Prediction,
    Result, Watch,
};
use wasm_bindgen::JsValue;

use crate::desk::Watching;
use crate::files::files;
use crate::pictures::{picture, pictures};
use crate::values::{bytes, field, floats, list, number, object, text, text_or_none, texts, words};

/// Prepared pictures that the image tower takes at once, at most.
const AT_ONCE: usize = 32;

/// What the page holds, by numbers.
enum Held {
    Model(Model),
    Classifier(Classifier),
    Correction(Correction),
    Examples(Examples),
}

#[derive(Default)]
struct Table {
    gpu: Option<Gpu>,
    held: BTreeMap<u32, Held>,
    last: u32,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
}

/// Keeps something for the page, and gives its number.
fn keep(held: Held) -> JsValue {
    TABLE.with_borrow_mut(|table| {
        table.last += 1;
        table.held.insert(table.last, held);
        table.last.into()
    })
}

/// A clone of what a number stands for: it is at hand however long the work takes, and whatever the page gives back meanwhile.
fn take<T>(request: &JsValue, name: &str, of: impl FnOnce(&Held) -> Option<T>) -> Result<T> {
    let wrong = || Error::Invalid(format!("{name}: it was freed, or is no {name}"));
    let number = number(request, name).map_err(|_| wrong())? as u32;
    TABLE.with_borrow(|table| table.held.get(&number).and_then(of)).ok_or_else(wrong)
}

fn model(request: &JsValue) -> Result<Model> {
    take(request, "model", |held| if let Held::Model(model) = held { Some(model.clone()) } else { None })
}

fn classifier(request: &JsValue) -> Result<Classifier> {
    take(request, "classifier", |held| if let Held::Classifier(one) = held { Some(one.clone()) } else { None })
}

fn examples(request: &JsValue) -> Result<Examples> {
    take(request, "examples", |held| if let Held::Examples(one) = held { Some(one.clone()) } else { None })
}

fn correction(request: &JsValue) -> Result<Option<Correction>> {
    if field(request, "correction").is_undefined() {
        return Ok(None);
    }
    take(request, "correction", |held| if let Held::Correction(one) = held { Some(one.clone()) } else { None })
        .map(Some)
}

/// The device, which is opened anew where it was lost.
fn gpu() -> Result<Gpu> {
    if let Some(gpu) = TABLE.with_borrow(|table| table.gpu.clone()).filter(|gpu| gpu.check().is_ok()) {
        return Ok(gpu);
    }
    let gpu = Gpu::open(&DeviceOptions::default())?;
    TABLE.with_borrow_mut(|table| table.gpu = Some(gpu.clone()));
    Ok(gpu)
}

/// Does what a request asks for.
pub fn answer(request: &JsValue) -> Result<JsValue> {
    let mut watch = Watching::default();
    match text(request, "what")?.as_str() {
        "device" => gpu().map(|gpu| describe(&gpu)),
        "load" => load(request),
        "methods" => Ok(methods()),
        "free" => {
            let number = number(request, "number")? as u32;
            let freed = TABLE.with_borrow_mut(|table| table.held.remove(&number));
            drop(freed);
            Ok(JsValue::UNDEFINED)
        }
        "release" => model(request).map(|model| {
            model.release();
            JsValue::UNDEFINED
        }),
        "encodeImages" => {
            let features = model(request)?.encode(&pictures(request)?, &mut watch)?;
            Ok(Float32Array::from(features.values()).into())
        }
        "encodePixels" => encode_pixels(request, &mut watch),
        "encodeTexts" => {
            let features = model(request)?.encode_texts(&texts(request, "texts")?)?;
            Ok(Float32Array::from(features.values()).into())
        }
        "zeroShot" => {
            let classifier = model(request)?.zero_shot(&texts(request, "classes")?, &texts(request, "templates")?)?;
            Ok(of_classifier(classifier))
        }
        "examples" => Ok(keep(Held::Examples(Examples::new()))),
        "add" => add(request),
        "fit" => fit(request, &mut watch),
        "openAdapter" => {
            let adapter = model(request)?.adapter_from_bytes(&text(request, "name")?, bytes(request, "bytes")?)?;
            Ok(of_classifier(adapter))
        }
        "openCorrection" => {
            let correction =
                model(request)?.correction_from_bytes(&text(request, "name")?, bytes(request, "bytes")?)?;
            Ok(keep(Held::Correction(correction)))
        }
        "predict" => predict(request, &mut watch),
        "save" => Ok(Uint8Array::from(&*classifier(request)?.to_bytes()?).into()),
        other => Err(Error::Invalid(format!("'{other}' is nothing that can be asked for"))),
    }
}

fn describe(gpu: &Gpu) -> JsValue {
    let limits = &gpu.low_level().capabilities();
    object(&[
        ("name", gpu.name().into()),
        ("kind", gpu.kind().into()),
        ("about", gpu.describe().into()),
        ("capabilities", format!("{limits:?}").into()),
        ("allocatedBytes", (gpu.allocated_bytes() as f64).into()),
        ("peakBytes", (gpu.peak_bytes() as f64).into()),
    ])
}

fn load(request: &JsValue) -> Result<JsValue> {
    let precision = match text_or_none(request, "precision")?.as_deref() {
        None | Some("f32") => Precision::F32,
        Some("f16") => Precision::F16,
        Some("int8") => Precision::Int8,
        Some(other) => return Err(Error::Invalid(format!("precision: '{other}' is none; give f32, f16 or int8"))),
    };
    let model = Model::load_as(&gpu()?, files(request)?, precision)?;
    let width = model.width();
    Ok(object(&[("number", keep(Held::Model(model))), ("width", (width as u32).into())]))
}

fn methods() -> JsValue {
    let of = |method: Method| {
        let setting = |setting: tipi::Setting| {
            let default = js_sys::JSON::parse(&setting.default.to_string()).unwrap_or(JsValue::NULL);
            object(&[("name", setting.name.into()), ("help", setting.help.into()), ("default", default)])
        };
        object(&[
            ("name", method.name().into()),
            ("title", method.title().into()),
            ("about", method.about().into()),
            ("paper", method.paper().into()),
            ("needsCorrection", method.needs_correction().into()),
            ("trains", method.trains().into()),
            ("settings", method.settings().into_iter().map(setting).collect::<Array>().into()),
        ])
    };
    Method::all().map(of).collect::<Array>().into()
}

/// Features of prepared pixels, some pictures after the others.
fn encode_pixels(request: &JsValue, watch: &mut Watching) -> Result<JsValue> {
    let (model, values) = (model(request)?, floats(request, "values")?);
    let clip = model.clip();
    let one = 3 * clip.config.image_size.pow(2);
    let pictures = values.len().div_ceil(one);
    let mut features = Vec::with_capacity(pictures * model.width());
    if pictures > 0 {
        let batch = clip.largest_batch(pictures.min(AT_ONCE), None)?;
        let mut encoder = clip.image_encoder(batch)?;
        watch.begin("encoding pictures", pictures);
        for (at, chunk) in values.chunks(one * batch).enumerate() {
            features.extend(encoder.encode(chunk, &mut |_| {})?);
            watch.at(pictures.min((at + 1) * batch))?;
        }
        watch.end();
    }
    Ok(Float32Array::from(&*features).into())
}

/// Adds pictures, to learn from or to validate on.
fn add(request: &JsValue) -> Result<JsValue> {
    let number = number(request, "examples")? as u32;
    let mut given = Vec::new();
    for one in list(request, "pictures")?.iter() {
        given.push((text(&one, "class")?, picture(&one)?));
    }
    let validation = field(request, "validation").is_truthy();
    TABLE.with_borrow_mut(|table| {
        let Some(Held::Examples(examples)) = table.held.get_mut(&number) else {
            return Err(Error::Invalid("examples: they were freed".into()));
        };
        for (class, picture) in given {
            if validation {
                examples.add_validation(&class, picture);
            } else {
                examples.add(&class, picture);
            }
        }
        Ok(words(examples.classes()))
    })
}

fn of_classifier(classifier: Classifier) -> JsValue {
    let classes = words(classifier.classes());
    let method = classifier.method().map_or(JsValue::NULL, |method| method.name().into());
    object(&[("number", keep(Held::Classifier(classifier))), ("classes", classes), ("method", method)])
}

fn fit(request: &JsValue, watch: &mut Watching) -> Result<JsValue> {
    let mut options = FitOptions::new(Method::named(&text(request, "method")?)?);
    if let Some(settings) = text_or_none(request, "settings")? {
        options = options.with_settings(&settings)?;
    }
    if let Some(how) = text_or_none(request, "how")? {
        options = options.with_how(&how)?;
    }
    let templates = texts(request, "templates")?;
    if let Some(first) = templates.first() {
        options = options.with_template(first);
        options.templates = templates;
    }
    if let Some(words) = text_or_none(request, "words")? {
        options.words = words;
    }
    options.seed = number(request, "seed")? as u64;
    options.correction = correction(request)?;
    let (classifier, report) = model(request)?.fit(&examples(request)?, &options, watch)?;
    Ok(object(&[
        ("classifier", of_classifier(classifier)),
        ("losses", Float32Array::from(&*report.losses).into()),
        ("validationAccuracy", report.validation_accuracy.map_or(JsValue::NULL, JsValue::from)),
        ("validationPictures", (report.validation_pictures as u32).into()),
    ]))
}

fn predict(request: &JsValue, watch: &mut Watching) -> Result<JsValue> {
    let mut classifier = classifier(request)?;
    if let Some(keep) = field(request, "keep").as_f64() {
        let by = text_or_none(request, "unknownBy")?.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        classifier = classifier.keeping(keep, by)?;
    }
    let answers = classifier.predict_all(&pictures(request)?, watch)?;
    let of = |answer: Result<Prediction>| match answer {
        Ok(prediction) => object(&[
            ("class", prediction.class().map_or(JsValue::NULL, JsValue::from)),
            ("probabilities", Float64Array::from(prediction.probabilities()).into()),
            ("scores", Float32Array::from(prediction.scores()).into()),
            ("familiarity", prediction.familiarity().map_or(JsValue::NULL, JsValue::from)),
        ]),
        Err(error) => object(&[("error", error.to_string().into()), ("kind", crate::kind(&error).into())]),
    };
    Ok(answers.into_iter().map(of).collect::<Array>().into())
}
