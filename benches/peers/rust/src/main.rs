//! Times of other engines on the cases that `benches/peers/compare.py` puts side by side with tipi's.
//! One JSON object a line: {"engine", "case", "seconds"}, the best of several runs.
//!
//! `tipi-peers burn|candle gemm|image [REPEATS]`

use std::time::Instant;

/// Rows, columns and inner length of the product that all engines are asked for.
const GEMM: [usize; 3] = [1600, 3072, 768];
const BATCH: usize = 8;

fn report(engine: &str, case: &str, seconds: f64) {
    println!("{{\"engine\": \"{engine}\", \"case\": \"{case}\", \"seconds\": {seconds}}}");
}

/// The best of so many runs, after one that is not counted.
fn best(repeats: usize, mut run: impl FnMut()) -> f64 {
    run();
    (0..repeats)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

#[cfg(feature = "candle")]
mod candle {
    use super::{BATCH, GEMM, best, report};
    use candle_core::{DType, Device, Module, Tensor};
    use candle_nn::{VarBuilder, VarMap};
    use candle_transformers::models::clip::vision_model::{ClipVisionConfig, ClipVisionTransformer};

    pub fn gemm(repeats: usize) -> candle_core::Result<()> {
        let [m, n, k] = GEMM;
        let a = Tensor::randn(0f32, 1.0, (m, k), &Device::Cpu)?;
        let b = Tensor::randn(0f32, 1.0, (n, k), &Device::Cpu)?;
        report("candle (CPU)", "gemm", best(repeats, || drop(a.matmul(&b.t().unwrap()).unwrap())));
        Ok(())
    }

    pub fn image(repeats: usize) -> candle_core::Result<()> {
        let vars = VarMap::new();
        let weights = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let tower = ClipVisionTransformer::new(weights, &ClipVisionConfig::vit_base_patch32())?;
        let pixels = Tensor::randn(0f32, 1.0, (BATCH, 3, 224, 224), &Device::Cpu)?;
        report("candle (CPU)", "image", best(repeats, || drop(tower.forward(&pixels).unwrap())));
        Ok(())
    }
}

#[cfg(feature = "burn")]
mod burn_wgpu {
    use super::{BATCH, GEMM, best, report};
    use burn::backend::Wgpu;
    use burn::module::Module;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::activation::{sigmoid, softmax};
    use burn::tensor::backend::Backend;
    use burn::tensor::{Distribution, Tensor};

    type B = Wgpu<f32, i32>;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<B, D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
    }

    fn wait<const D: usize>(t: Tensor<B, D>) {
        // Reading one number back is the one wait that all of burn's versions have.
        let _ = t.slice(std::array::from_fn::<_, D, _>(|_| 0..1)).into_data();
        B::sync(&Default::default()).unwrap();
    }

    pub fn gemm(repeats: usize) {
        let [m, n, k] = GEMM;
        let (a, b) = (random([m, k]), random([n, k]));
        report("burn (wgpu)", "gemm", best(repeats, || wait(a.clone().matmul(b.clone().transpose()))));
    }

    #[derive(Module, Debug)]
    struct Block<B: Backend> {
        ln1: LayerNorm<B>,
        qkv: Linear<B>,
        out: Linear<B>,
        ln2: LayerNorm<B>,
        up: Linear<B>,
        down: Linear<B>,
    }

    const WIDTH: usize = 768;
    const HEADS: usize = 12;

    impl Block<B> {
        fn new() -> Self {
            let d = &Default::default();
            Block {
                ln1: LayerNormConfig::new(WIDTH).init(d),
                qkv: LinearConfig::new(WIDTH, 3 * WIDTH).init(d),
                out: LinearConfig::new(WIDTH, WIDTH).init(d),
                ln2: LayerNormConfig::new(WIDTH).init(d),
                up: LinearConfig::new(WIDTH, 4 * WIDTH).init(d),
                down: LinearConfig::new(4 * WIDTH, WIDTH).init(d),
            }
        }

        fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
            let [batch, tokens, _] = x.dims();
            let head = WIDTH / HEADS;
            let qkv = self.qkv.forward(self.ln1.forward(x.clone()));
            let part = |i: usize| {
                qkv.clone()
                    .slice([0..batch, 0..tokens, i * WIDTH..(i + 1) * WIDTH])
                    .reshape([batch, tokens, HEADS, head])
                    .swap_dims(1, 2)
            };
            let scores = part(0).matmul(part(1).transpose()).div_scalar((head as f32).sqrt());
            let mixed = softmax(scores, 3).matmul(part(2)).swap_dims(1, 2).reshape([batch, tokens, WIDTH]);
            let x = x + self.out.forward(mixed);
            let up = self.up.forward(self.ln2.forward(x.clone()));
            let hidden = up.clone() * sigmoid(up.mul_scalar(1.702));
            x + self.down.forward(hidden)
        }
    }

    pub fn image(repeats: usize) {
        let d = &Default::default();
        let patches: Conv2d<B> = Conv2dConfig::new([3, WIDTH], [32, 32]).with_stride([32, 32]).with_bias(false).init(d);
        let (class, position) = (random([1, 1, WIDTH]), random([1, 50, WIDTH]));
        let (pre, post): (LayerNorm<B>, LayerNorm<B>) =
            (LayerNormConfig::new(WIDTH).init(d), LayerNormConfig::new(WIDTH).init(d));
        let projection: Linear<B> = LinearConfig::new(WIDTH, 512).with_bias(false).init(d);
        let blocks: Vec<Block<B>> = (0..12).map(|_| Block::new()).collect();
        let pixels: Tensor<B, 4> = random([BATCH, 3, 224, 224]);
        let run = || {
            let x = patches.forward(pixels.clone()).reshape([BATCH, WIDTH, 49]).swap_dims(1, 2);
            let x = Tensor::cat(vec![class.clone().repeat_dim(0, BATCH), x], 1) + position.clone();
            let mut x = pre.forward(x);
            for block in &blocks {
                x = block.forward(x);
            }
            let class = x.slice([0..BATCH, 0..1, 0..WIDTH]).reshape([BATCH, WIDTH]);
            wait(projection.forward(post.forward(class)));
        };
        report("burn (wgpu)", "image", best(repeats, run));
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let repeats = args.get(2).and_then(|r| r.parse().ok()).unwrap_or(3);
    match (args.first().map(String::as_str), args.get(1).map(String::as_str)) {
        #[cfg(feature = "candle")]
        (Some("candle"), Some("gemm")) => candle::gemm(repeats).unwrap(),
        #[cfg(feature = "candle")]
        (Some("candle"), Some("image")) => candle::image(repeats).unwrap(),
        #[cfg(feature = "burn")]
        (Some("burn"), Some("gemm")) => burn_wgpu::gemm(repeats),
        #[cfg(feature = "burn")]
        (Some("burn"), Some("image")) => burn_wgpu::image(repeats),
        _ => {
            eprintln!("usage: tipi-peers burn|candle gemm|image [REPEATS]");
            std::process::exit(2);
        }
    }
}
