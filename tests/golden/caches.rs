//! Tip-Adapter and Tip-X, with and without the overlap correction, and their searches.

use serde_json::Value;
use tipi::low_level::adapt::argmax;
use tipi::low_level::adapt::search::{Found, Grid, Searched, linspace, search};
use tipi::low_level::adapt::tip::{self, Cache, TipParams};
use tipi::low_level::adapt::tip_x::{Psi, TipX, TipXParams};
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::clip::Features;
use tipi::low_level::gpu::{Recorder, Tensor};
use tipi::low_level::kernels::divergence;

use crate::{Case, cases, chosen, class_rows, compute, floats, gpu, host, own, product, unit};

fn spaced(v: &Value) -> Vec<f64> {
    let v = v.as_array().unwrap();
    assert_eq!(v[0], "linspace");
    linspace(v[1].as_f64().unwrap(), v[2].as_f64().unwrap(), v[3].as_u64().unwrap() as usize)
}

/// One form of the cache methods: plain, or corrected, whose names end in "pp".
struct CacheForm {
    suffix: &'static str,
    tip: &'static str,
    tip_x: &'static str,
}

const CACHE_FORMS: [CacheForm; 2] = [
    CacheForm { suffix: "", tip: "tip", tip_x: "tipx" },
    CacheForm { suffix: "_corrected", tip: "tippp", tip_x: "tipxpp" },
];

/// A split's features as a form takes them: adapted ones beside the original ones in the corrected form.
fn split_features(case: &Case, split: &str, form: &CacheForm) -> Features {
    let read = |suffix: &str| case.input(&format!("in.{split}.f{suffix}")).f32();
    Features { original: read(""), adapted: (!form.suffix.is_empty()).then(|| read(form.suffix)) }
}

#[test]
fn cache_methods() {
    for mut case in cases(chosen(), "cache_methods") {
        let classes = case.param("classes").as_u64().unwrap() as usize;
        let w = case.input("in.W");
        let d = w.shape[0];
        let weights = class_rows(w);
        let classifier = Classifier::from_weights(gpu(), &weights, classes, 100.0).unwrap();
        let labels = case.input("in.cache_labels").u32();
        let test = case.input("in.test.f").f32();
        case.compare("out.zero_shot", &product(&test, &weights, d, 100.0));
        let views = case.input("in.views");
        let original = tip::keys(gpu(), &views.f32(), views.shape[0], d).unwrap();
        for form in &CACHE_FORMS {
            let views = case.input(&format!("in.views{}", form.suffix));
            let keys = tip::keys(gpu(), &views.f32(), views.shape[0], d).unwrap();
            case.compare(&format!("out.keys{}", form.suffix), &keys);
            let affinity = format!("out.affinity{}", form.suffix);
            let rows = case.input(&affinity).shape[0];
            let queries = case.input(&format!("in.test.f{}", form.suffix)).f32();
            case.compare(&affinity, &product(&queries[..rows * d], &keys, d, 1.0));
            let cache = Cache::new(gpu(), &keys, &labels, classes, d).unwrap();
            tip_case(&mut case, form, &classifier, &cache, (&keys, &labels));
            let tip_x = TipX::new(gpu(), &classifier, cache, &original, &labels).unwrap();
            tip_x_case(&mut case, form, &classifier, &tip_x, &labels);
        }
        case.finish(|_| false);
    }
}

/// Right test rows at the best point, within the rows that are too near to call.
fn check_test_count(case: &Case, method: &str, logits: &[f32], classes: usize) {
    let best = &case.param("best")[method];
    let labels = case.input("in.test.labels").u32();
    let right = logits.chunks(classes).zip(&labels).filter(|(r, l)| argmax(r) == **l as usize).count();
    let off = right.abs_diff(best["test_correct"].as_u64().unwrap() as usize) as u64;
    assert!(off <= best["test_near"].as_u64().unwrap(), "{}: {method}: test count off by {off}", case.name);
}

fn best_params(case: &Case, method: &str) -> TipXParams {
    let best = &case.param("best")[method];
    let number = |key: &str| best[key].as_f64().unwrap_or(0.0);
    TipXParams { alpha: number("alpha"), beta: number("beta"), gamma: number("gamma") }
}

fn tip_case(
    case: &mut Case,
    form: &CacheForm,
    classifier: &Classifier,
    cache: &Cache,
    (keys, labels): (&[f32], &[u32]),
) {
    let (classes, d) = (classifier.classes(), classifier.weights.cols());
    let method = form.tip;
    let test = split_features(case, "test", form);
    let logits = |cache: &Cache, params: TipParams| cache.logits(gpu(), classifier, &test, params).unwrap();
    let probes: Vec<Vec<f64>> = case.param("probes_alpha_beta_gamma").as_array().unwrap().iter().map(floats).collect();
    for (i, p) in probes.iter().enumerate() {
        case.compare(&format!("out.probe{i}.{method}"), &logits(cache, TipParams { alpha: p[0], beta: p[1] }));
    }
    // Planted: keys that are not of length 1. A probe with α or β of zero cannot see that.
    let long: Vec<f32> = keys.iter().map(|k| k * 1.01).collect();
    let wrong = Cache::new(gpu(), &long, labels, classes, d).unwrap();
    let noticed = probes
        .iter()
        .enumerate()
        .filter(|(_, p)| p[0] * p[1] > 0.5)
        .map(|(i, p)| {
            let wrong = logits(&wrong, TipParams { alpha: p[0], beta: p[1] });
            case.excess(&format!("out.probe{i}.{method}"), &wrong)
        })
        .fold(None, |most: Option<f64>, v| Some(most.map_or(v, |m| m.max(v))));
    assert!(noticed.is_none_or(|v| v > 10.0), "{}: {method}: keys of another length went unnoticed", case.name);

    let at_best = logits(cache, best_params(case, method).tip());
    case.compare(&format!("out.best.{method}"), &at_best);
    check_test_count(case, method, &at_best, classes);

    let grid = case.param("grid");
    let grid_ab = Grid::alpha_beta(spaced(&grid["alphas"]), spaced(&grid["betas"]));
    let method_of = Searched::from(cache);
    check_grid(case, method, &grid_ab, classifier, method_of, &split_features(case, "val", form));
    if form.suffix.is_empty() {
        let own = &grid["tip_search"];
        let (tops, steps) = (floats(&own["search_scale"]), floats(&own["search_step"]));
        let grid = Grid::tip_adapter((tops[0], tops[1]), (steps[0] as usize, steps[1] as usize));
        let last = floats(&own["last_beta_alpha"]);
        assert!(
            (grid.betas.last().unwrap() - last[0]).abs() < 1e-9 && (grid.alphas.last().unwrap() - last[1]).abs() < 1e-9
        );
        check_grid(case, "tip_search", &grid, classifier, method_of, &split_features(case, "val", form));
    }
}

/// Normalised rows on the GPU.
fn unit_rows(values: &[f32], d: usize) -> Tensor {
    gpu().upload("rows", &unit(values, d), &[values.len() / d, d]).unwrap()
}

fn tip_x_case(case: &mut Case, form: &CacheForm, classifier: &Classifier, tip_x: &TipX, labels: &[u32]) {
    let (classes, d) = (classifier.classes(), classifier.weights.cols());
    let method = form.tip_x;
    let test = split_features(case, "test", form);
    let psi = tip_x.range(gpu(), classifier, &test).unwrap();
    let f = unit_rows(&test.original, d);
    let rows = f.rows();

    // The divergences themselves: ours have the keys sorted by class, the reference's as they were given.
    let mut rec = Recorder::new(gpu());
    let (matrix, own) = tip_x.record_divergences(&mut rec, classifier, &f).unwrap();
    rec.finish().unwrap().run().unwrap();
    let (matrix, own) = (host(&matrix), host(&own.stats));
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|i| labels[*i]);
    let mut kl = vec![0f32; rows * labels.len()];
    for i in 0..rows {
        for (sorted, given) in order.iter().enumerate() {
            kl[i * labels.len() + given] = matrix[i * labels.len() + sorted] + own[2 * i];
        }
    }
    if form.suffix.is_empty() {
        case.compare("out.kl", &kl);
    }
    let name = format!("out.kl_scaled{}", form.suffix);
    let r = psi.rescale();
    let scaled: Vec<f32> = kl[..case.input(&name).values.len()]
        .iter()
        .map(|v| (f64::from(r.slope) * (f64::from(*v) - f64::from(r.low)) + f64::from(r.floor)) as f32)
        .collect();
    case.compare(&name, &scaled);
    let term = |psi: Psi| compute(|rec| tip_x.record_term(rec, classifier, &f, psi));
    let name = format!("out.kl_logits{}", form.suffix);
    case.compare(&name, &term(psi));
    // Planted: ψ rescaled to the range of other pictures, as SuS-X's code rescales.
    let val = split_features(case, "val", form);
    let other = tip_x.range(gpu(), classifier, &val).unwrap();
    if other != psi {
        assert!(case.excess(&name, &term(other)) > 10.0, "{}: {method}: another range went unnoticed", case.name);
    }

    // The batch form of the paper: the range is that of the pictures evaluated.
    let logits = |params: TipXParams| tip_x.logits(gpu(), classifier, &test, params, None).unwrap();
    for (i, p) in case.param("probes_alpha_beta_gamma").as_array().unwrap().iter().map(floats).enumerate() {
        let params = TipXParams { alpha: p[0], beta: p[1], gamma: p[2] };
        case.compare(&format!("out.probe{i}.{method}"), &logits(params));
        // With the same range frozen, one picture alone gets the same answer.
        let one = test.rows(&[rows - 1], d).unwrap();
        let alone = tip_x.logits(gpu(), classifier, &one, params, Some(psi)).unwrap();
        let together = &logits(params)[(rows - 1) * classes..];
        let top = together.iter().fold(1f32, |m, v| m.max(v.abs()));
        assert!(alone.iter().zip(together).all(|(a, b)| (a - b).abs() <= 1e-5 * top), "{}: {method}", case.name);
    }
    let at_best = logits(best_params(case, method));
    case.compare(&format!("out.best.{method}"), &at_best);
    check_test_count(case, method, &at_best, classes);

    let grid = case.param("grid");
    let grid =
        Grid { gammas: spaced(&grid["gammas"]), ..Grid::alpha_beta(spaced(&grid["alphas"]), spaced(&grid["betas"])) };
    check_grid(case, method, &grid, classifier, (tip_x, other).into(), &val);
}

fn check_grid(
    case: &mut Case,
    method: &str,
    grid: &Grid,
    classifier: &Classifier,
    searched: Searched<'_>,
    val: &Features,
) {
    let labels = case.input("in.val.labels").u32();
    let run =
        |labels: &[u32]| -> Found { search(gpu(), classifier, searched, val, labels, grid, &mut |_| {}).unwrap() };
    let found = run(&labels);
    let (correct, near) = (format!("out.grid.{method}.correct"), format!("out.grid.{method}.near"));
    let differs = |counts: &[u32]| {
        let (want, near) = (case.input(&correct).u32(), case.input(&near).u32());
        assert_eq!(counts.len(), want.len());
        counts.iter().zip(&want).zip(&near).filter(|((g, w), n)| g.abs_diff(**w) > **n).count()
    };
    assert_eq!(differs(&found.counts), 0, "{}: {method}: points off by more than their near rows", case.name);
    // Planted: labels moved round by one.
    let wrong: Vec<u32> = labels.iter().map(|l| (l + 1) % classifier.classes() as u32).collect();
    assert!(differs(&run(&wrong).counts) > grid.len() / 2, "{}: {method}: other labels went unnoticed", case.name);
    let best = &case.param("best")[method];
    if best["unambiguous"].as_bool().unwrap() {
        let want = best_params(case, method);
        let off = |got: f64, want: f64| (got - want).abs() > 1e-9;
        let p = found.params;
        assert!(
            !off(p.alpha, want.alpha) && !off(p.beta, want.beta) && !off(p.gamma, want.gamma),
            "{}: {method}: {p:?} for {want:?}",
            case.name
        );
    }
    let off = u64::from(found.correct).abs_diff(best["val_correct"].as_u64().unwrap());
    assert!(off <= u64::from(*case.input(&near).u32().iter().max().unwrap()));
    case.compared.insert(correct);
    case.compared.insert(near);
}

/// Centring before the product is what keeps f32 exact enough: without it, as Σ p·log p − p·log q, the wide case fails.
#[test]
fn the_naive_divergence_is_noticed() {
    let mut worst = 0f64;
    for case in cases(own(), "cache_methods") {
        let classes = case.param("classes").as_u64().unwrap() as usize;
        let w = case.input("in.W");
        let d = w.shape[0];
        let test = unit(&case.input("in.test.f").f32(), d);
        let views = case.input("in.views");
        let keys = tip::keys(gpu(), &views.f32(), views.shape[0], d).unwrap();
        let logs = |rows: &[f32]| -> Vec<Vec<f32>> {
            rows.chunks(d)
                .map(|row| {
                    let z: Vec<f32> = (0..classes)
                        .map(|c| {
                            2.0 * row.iter().enumerate().map(|(i, v)| v * w.values[i * classes + c] as f32).sum::<f32>()
                        })
                        .collect();
                    let total = z.iter().map(|v| v.exp()).sum::<f32>().ln();
                    z.iter().map(|v| v - total).collect()
                })
                .collect()
        };
        let (p, q) = (logs(&test), logs(&keys));
        let kl: Vec<f32> = p
            .iter()
            .flat_map(|p| {
                let own: f32 = p.iter().map(|l| l.exp() * l).sum();
                q.iter().map(move |q| own - p.iter().zip(q).map(|(p, q)| p.exp() * q).sum::<f32>()).collect::<Vec<_>>()
            })
            .collect();
        let ours = case.excess("out.kl", &{
            let z = |rows: &[f32]| product(rows, &class_rows(w), d, 2.0);
            let (zp, zq) = (z(&test), z(&keys));
            let up = |v: &[f32]| gpu().upload("z", v, &[v.len() / classes, classes]).unwrap();
            let (zp, zq) = (up(&zp), up(&zq));
            let mut rec = Recorder::new(gpu());
            let (p, q) =
                (divergence::distributions(&mut rec, &zp).unwrap(), divergence::distributions(&mut rec, &zq).unwrap());
            rec.finish().unwrap().run().unwrap();
            let part: Vec<f32> = host(&q.stats).chunks(2).map(|s| s[1]).collect();
            let part = gpu().upload("part", &part, &[part.len()]).unwrap();
            let own = host(&p.stats);
            let n = part.len();
            let m = compute(|rec| divergence::matrix(rec, &p, &q, &part));
            m.iter().enumerate().map(|(i, v)| v + own[2 * (i / n)]).collect::<Vec<_>>()
        });
        let naive = case.excess("out.kl", &kl);
        println!("{}: divergences at {ours:.2} of their bound, naively {naive:.2}", case.name);
        assert!(ours <= 1.0 && ours < naive);
        worst = worst.max(naive / ours);
    }
    assert!(worst > 5.0, "the naive form is at most {worst} times worse");
}
