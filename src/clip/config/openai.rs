//! OpenAI's checkpoints: no configuration, the tensors' shapes say all.

use super::{ClipConfig, EndToken, ImageConfig, ProjectionForm, ResNetConfig, TextStem, TowerConfig, VitConfig};
use crate::clip::checkpoint::Checkpoint;
use crate::clip::frame::Frame;
use crate::kernels::activation::Activation;
use crate::nn::Hidden;
use crate::{Error, Result};

/// Infers the architecture of a checkpoint with OpenAI's names from its tensors, as OpenAI's loader does: heads are 64
/// wide, the activation is QuickGELU, the end token has the highest id.
pub(super) fn infer(checkpoint: &Checkpoint) -> Result<ClipConfig> {
    let dim = |name: &str, axis: usize| -> Result<usize> {
        let shape = checkpoint.shape(name)?;
        shape.get(axis).copied().ok_or_else(|| Error::TensorForm {
            path: checkpoint.path().to_path_buf(),
            tensor: name.into(),
            expected: format!("at least {} dimensions", axis + 1),
            found: format!("{shape:?}"),
        })
    };
    let tower = |prefix: &str, width: usize| -> Result<TowerConfig> {
        let mlp = dim(&format!("{prefix}resblocks.0.mlp.c_fc.weight"), 0)?;
        let layers = checkpoint.count_layers(&format!("{prefix}resblocks."));
        let hidden = Hidden::Activated(Activation::QuickGelu);
        Ok(TowerConfig::plain([width, mlp, layers, width / 64], hidden, 1e-5))
    };
    let (positions, scale, image) = if checkpoint.has_resnet() {
        let width = dim("visual.layer1.0.conv1.weight", 0)?;
        let stages = [1, 2, 3, 4].map(|n| checkpoint.count_layers(&format!("visual.layer{n}.")));
        let net = ResNetConfig { stages, width, heads: width * 32 / 64 };
        ("visual.attnpool.positional_embedding", 32, ImageConfig::ResNet(net))
    } else {
        let patch = dim("visual.conv1.weight", 3)?;
        let tower = tower("visual.transformer.", dim("visual.conv1.weight", 0)?)?;
        ("visual.positional_embedding", patch, ImageConfig::Vit(VitConfig::clip(tower, patch)))
    };
    let tokens = dim(positions, 0)?;
    let grid = (tokens.saturating_sub(1) as f64).sqrt().round() as usize;
    if grid.checked_mul(grid).and_then(|n| n.checked_add(1)) != Some(tokens) {
        return Err(Error::config(
            checkpoint.path(),
            format!("{positions} has {tokens} rows, which is not a square number and one"),
        ));
    }
    let text = |name: &str| checkpoint.text_name(name);
    let config = ClipConfig {
        image,
        text: tower(&text("transformer."), dim(&text("ln_final.weight"), 0)?)?,
        image_size: grid.saturating_mul(scale),
        context: dim(&text("positional_embedding"), 0)?,
        text_stem: TextStem::Plain,
        vocabulary: dim(&text("token_embedding.weight"), 0)?,
        embedding: dim(&text("text_projection"), 1)?,
        end: EndToken::HighestId,
        causal: true,
        text_projection: ProjectionForm::Plain,
        logit_bias: false,
        frame: Frame::clip(),
    };
    config.check(checkpoint.path())?;
    Ok(config)
}
