//! Shapes that do not fit, and tensors that are too large.

use tipi::low_level::gpu::{DType, Recorder, Tensor};
use tipi::low_level::kernels::activation::{self, Activation};
use tipi::low_level::kernels::attention::{self, Pattern, Span};
use tipi::low_level::kernels::gemm::{self, Epilogue, Layout};
use tipi::low_level::kernels::{
    affinity, divergence, dropout, extremes, gather, layernorm, loss, noise, normalize, optim, pairs, patch, reduce,
    search, softmax,
};
use tipi::{Error, Result};

use crate::{gpu, invalid, up_u32};

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let t = |shape: &[usize]| gpu().zeros("test", shape).unwrap();
    let u = |n: usize| up_u32(&vec![0; n]);
    let rec = &mut Recorder::new(gpu());
    let act = Activation::Gelu;
    let (m34, m35, m43, v3, v4, v5) = (t(&[3, 4]), t(&[3, 5]), t(&[4, 3]), t(&[3]), t(&[4]), t(&[5]));

    invalid("activation", activation::backward(rec, act, &m34, &m35));
    for layout in Layout::ALL {
        invalid("gemm", gemm::matmul(rec, layout, &m34, &t(&[5, 7]), &Epilogue::default()));
    }
    let with = |bias, residual| Epilogue { bias, residual, ..Default::default() };
    invalid("gemm bias", gemm::matmul(rec, Layout::Nt, &m34, &m34, &with(Some(&v4), None)));
    invalid("gemm residual", gemm::matmul(rec, Layout::Nt, &m34, &m34, &with(None, Some(&m34))));
    invalid("layernorm gain", layernorm::forward(rec, &m34, &v3, &v4, 1e-5).map(|_| ()));
    invalid("layernorm shift", layernorm::forward(rec, &m34, &v4, &v3, 1e-5).map(|_| ()));
    let stats = t(&[3, 2]);
    invalid("layernorm stats", layernorm::backward(rec, &m34, &v4, &v4, &m34, None));
    invalid("layernorm gain", layernorm::backward(rec, &m34, &stats, &v5, &m34, None));
    invalid("layernorm dy", layernorm::backward(rec, &m34, &stats, &v4, &m43, None));
    invalid("layernorm base", layernorm::backward(rec, &m34, &stats, &v4, &m34, Some(&m35)));
    invalid("normalize norms", normalize::backward(rec, &m34, &v4, &m34));
    invalid("normalize dy", normalize::backward(rec, &m34, &v3, &m35));
    invalid("softmax", softmax::backward(rec, &m34, &m35));
    invalid("labels", loss::cross_entropy(rec, &m34, &u(4)).map(|_| ()));
    invalid("labels' type", loss::cross_entropy(rec, &m34, &v3).map(|_| ()));
    invalid("index", gather::rows(rec, &m34, &v3));
    invalid("mean over the middle", reduce::mean_middle(rec, &m34));
    invalid("sgd hyper", optim::sgd(rec, &v3, &m34, &m34, &m34));
    invalid("sgd grad", optim::sgd(rec, &v4, &m35, &m34, &m34));
    invalid("sgd velocity", optim::sgd(rec, &v4, &m34, &m35, &m34));
    let all = &m34;
    invalid("sgd on one buffer", optim::sgd(rec, &v4, all, all, all));

    invalid("counter", noise::normal(rec, &u(3), 0, &v5));
    invalid("counter's type", noise::normal(rec, &v4, 0, &v5));
    invalid("text noise", noise::text_apply(rec, &m34, 0..2, &m34, &m34, &m34).map(|_| ()));
    let m24 = t(&[2, 4]);
    invalid("text noise past the end", noise::text_apply(rec, &m34, 2..4, &m24, &m24, &m24));
    invalid("text noise dx past the end", noise::text_backward(rec, &m34, 2..4, &m24).map(|_| ()));
    invalid("text noise dx", noise::text_backward(rec, &m34, 0..1, &m24).map(|_| ()));
    invalid("image noise mean", noise::image_apply(rec, &m34, 2, &m35, &m34, &t(&[6, 4])));
    invalid("image noise eps", noise::image_apply(rec, &m34, 2, &m34, &m34, &m34));
    invalid("no draws", noise::image_apply(rec, &m34, 0, &m34, &m34, &m34));
    invalid("image noise dx", noise::image_backward(rec, &m34, 2, &m34, &t(&[6, 4])).map(|_| ()));

    let embedding = |weight: &[usize], position: &[usize], patch| patch::PatchEmbedding {
        weight: t(weight),
        bias: None,
        class: Some(t(&[5])),
        position: t(position),
        patch,
    };
    let pixels = t(&[2, 3, 8, 8]);
    let sound = embedding(&[5, 48], &[5, 5], 4);
    assert!(patch::forward(rec, &pixels, &sound).is_ok());
    invalid("two channels", patch::forward(rec, &t(&[2, 2, 8, 8]), &sound));
    invalid("not square", patch::forward(rec, &t(&[2, 3, 8, 9]), &sound));
    invalid("smaller than a patch", patch::forward(rec, &t(&[2, 3, 3, 3]), &sound));
    invalid("patch weight", patch::forward(rec, &pixels, &embedding(&[5, 47], &[5, 5], 4)));
    invalid("positions", patch::forward(rec, &pixels, &embedding(&[5, 48], &[4, 5], 4)));
    invalid("patches of nothing", patch::forward(rec, &pixels, &embedding(&[5, 48], &[5, 5], 0)));

    let span = |start, len| Span { start, len };
    invalid("no sequences", Pattern::new(gpu(), None, &[], false));
    invalid("an empty sequence", Pattern::new(gpu(), None, &[span(0, 0)], false));
    invalid("a gap", Pattern::new(gpu(), None, &[span(0, 2), span(3, 1)], false));
    invalid("an overlap", Pattern::new(gpu(), Some(span(0, 2)), &[span(1, 2)], false));
    let pattern = Pattern::uniform(gpu(), 3, 1, true).unwrap();
    let qkv = t(&[3, 12]);
    let out = attention::forward(rec, &qkv, &pattern, 2).unwrap();
    invalid("attention heads", attention::forward(rec, &qkv, &pattern, 3).map(|_| ()));
    invalid("no heads", attention::forward(rec, &qkv, &pattern, 0).map(|_| ()));
    invalid("attention width", attention::forward(rec, &t(&[3, 13]), &pattern, 1).map(|_| ()));
    invalid("attention width", attention::forward(rec, &t(&[3, 2]), &pattern, 1).map(|_| ()));
    invalid("attention rows", attention::forward(rec, &t(&[4, 12]), &pattern, 2).map(|_| ()));
    invalid("attention lse", attention::weights(rec, &qkv, &v3, &pattern, 2));
    invalid("attention dy", attention::backward(rec, &qkv, &out, &m35, &pattern, 2));

    let keys = affinity::Keys::new(gpu(), t(&[6, 4]), &[0, 2, 6]).unwrap();
    invalid("starts that end early", affinity::Keys::new(gpu(), t(&[6, 4]), &[0, 2, 5]));
    invalid("starts that descend", affinity::Keys::new(gpu(), t(&[6, 4]), &[0, 7, 6]));
    invalid("starts from 1", affinity::Keys::new(gpu(), t(&[6, 4]), &[1, 2, 6]));
    invalid("no classes", affinity::Keys::new(gpu(), t(&[6, 4]), &[6]));
    invalid("other keys", keys.with_keys(t(&[5, 4])));
    invalid("keys' width", affinity::cache_term(rec, &m35, &keys, &t(&[1]), 1.0, None));
    invalid("betas", affinity::cache_term(rec, &m34, &keys, &t(&[21]), 1.0, None));
    invalid("betas with base", affinity::cache_term(rec, &m34, &keys, &t(&[2]), 1.0, Some(&t(&[3, 2]))));
    invalid("base", affinity::cache_term(rec, &m34, &keys, &t(&[1]), 1.0, Some(&m34)));
    let (m32, one) = (t(&[3, 2]), t(&[1]));
    invalid("keys' dy", affinity::backward_keys(rec, &m34, &keys, &u(6), &one, 1.0, &m34));
    invalid("keys' labels", affinity::backward_keys(rec, &m34, &keys, &u(5), &one, 1.0, &m32));
    invalid("keys' labels' type", affinity::backward_keys(rec, &m34, &keys, &t(&[6]), &one, 1.0, &m32));
    invalid("keys' betas", affinity::backward_keys(rec, &m34, &keys, &u(6), &t(&[2]), 1.0, &m32));

    let cached = t(&[2, 3, 4]);
    let terms = search::Terms { base: &m34, cache: &cached, kl: None };
    let with = |cache, kl| search::Terms { cache, kl, ..terms };
    let (other, up) = (t(&[2, 4, 3]), [0.0, 1.0]);
    invalid("search cache", search::count(rec, with(&other, None), &u(3), &up, &[0.0]));
    invalid("search cache", search::count(rec, with(&v5, None), &u(3), &up, &[0.0]));
    invalid("search kl", search::count(rec, with(&cached, Some(&m35)), &u(3), &up, &[0.0]));
    invalid("search labels", search::count(rec, terms, &u(4), &up, &[0.0]));
    invalid("search labels' type", search::count(rec, terms, &v3, &up, &[0.0]));
    invalid("no alphas", search::count(rec, terms, &u(3), &[], &[0.0]));
    invalid("descending alphas", search::count(rec, terms, &u(3), &[1.0, 0.0], &[0.0]));
    invalid("too many alphas", search::count(rec, terms, &u(3), &vec![0.0; search::MAX_ALPHAS + 1], &[0.0]));
    invalid("no gammas", search::count(rec, terms, &u(3), &up, &[]));

    invalid("adamw hyper", optim::adamw(rec, &v4, &m34, &t(&[2, 12]), &m35));
    invalid("adamw grad", optim::adamw(rec, &t(&[8]), &m35, &t(&[2, 12]), &m34));
    invalid("adamw moments", optim::adamw(rec, &t(&[8]), &m34, &t(&[12]), &m34));
    invalid("accumulate hyper", optim::accumulate(rec, &v4, &m34, &m34));
    invalid("accumulate grad", optim::accumulate(rec, &t(&[2]), &m34, &m35));
    invalid("dropout counter", dropout::mask(rec, &u(3), 0, 0.1, &m34));
    invalid("dropout counter's type", dropout::mask(rec, &v4, 0, 0.1, &m34));
    invalid("dropout of everything", dropout::mask(rec, &u(4), 0, 1.0, &m34));
    invalid("dropout mask", dropout::relu(rec, &m34, &m35));
    invalid("dropout dy", dropout::relu_backward(rec, &m34, &m35, &m34));

    let p = divergence::distributions(rec, &m34).unwrap();
    invalid("class starts", divergence::class_sums(rec, &m34, &v4));
    let sums = |centred: &[usize], stats: &[usize], starts: usize| divergence::ClassSums {
        centred: t(centred),
        stats: t(stats),
        starts: u(starts),
    };
    let psi = divergence::Rescale { slope: 1.0, low: 0.0, floor: 0.0 };
    invalid("class sums", divergence::class_term(rec, &p, &sums(&[3, 4], &[4, 2], 5), psi, 1.0, None));
    invalid("class statistics", divergence::class_term(rec, &p, &sums(&[4, 4], &[3, 2], 5), psi, 1.0, None));
    invalid("class starts", divergence::class_term(rec, &p, &sums(&[4, 4], &[4, 2], 4), psi, 1.0, None));
    invalid("base", divergence::class_term(rec, &p, &sums(&[4, 4], &[4, 2], 5), psi, 1.0, Some(&m35)));
    invalid("divergence parts", divergence::matrix(rec, &p, &p, &v4));
    invalid("offsets", extremes::extremes(rec, &m34, Some(&v4)));
    let counts = gpu().upload("counts", &vec![0u32; 2 * pairs::BINS], &[2, pairs::BINS]).unwrap();
    invalid("pair labels", pairs::count(rec, &m34, (&u(4), &u(4)), (0, 0), &counts));
    invalid("pair labels' type", pairs::count(rec, &m34, (&u(3), &v4), (0, 0), &counts));
    invalid("pair counts", pairs::count(rec, &m34, (&u(3), &u(4)), (0, 0), &u(2)));

    invalid("upload", gpu().upload("test", &[1f32; 5], &[2, 3]));
    invalid("empty", gpu().empty("test", &[2, 0], DType::F32));
    invalid("write", gpu().write(&v3, &[1f32; 4]));
    invalid("write of another type", gpu().write(&v3, &[1u32; 3]));
    invalid("read of another type", gpu().read::<u32>(&v3));
    invalid("reshape", v3.reshape(&[2, 2]));
    gpu().check().unwrap();
}

#[test]
fn tensors_past_the_limits_are_out_of_memory() {
    let limit = gpu().max_binding();
    let past = |what: &str, result: Result<Tensor>| match result {
        Err(Error::OutOfMemory { needed, .. }) => assert!(needed > gpu().max_binding(), "{what}: {needed}"),
        Err(other) => panic!("{what}: {other} where OutOfMemory was expected"),
        Ok(_) => panic!("{what}: no error"),
    };
    let rows = (limit / 4 / 1024) as usize + 1;
    past("empty", gpu().empty("test", &[rows, 1024], DType::F32));
    past("empty past 64 bits", gpu().empty("test", &[usize::MAX, 9], DType::U32));
    let rec = &mut Recorder::new(gpu());
    past("temp", rec.temp("test", &[1024, rows]));
    let side = ((limit / 4) as f64).sqrt() as usize + 1;
    let column = gpu().zeros("test", &[side, 1]).unwrap();
    past("gemm", gemm::matmul(rec, Layout::Nt, &column, &column, &Epilogue::default()));
    gpu().check().unwrap();
}
