"""Writes a state as a model folder in transformers' layout, matrices in f16.

    python export.py DIR STATE.pt OUT [--as-trained]
"""
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from data import Data, plain
from model import Clip, Shape
from tokens import CONTEXT


def block(state: dict, ours: str, theirs: str, out: dict) -> None:
    """One transformer block: queries, keys and values become three matrices."""
    for kind in ("weight", "bias"):
        for part, x in zip("qkv", state[f"{ours}.qkv.{kind}"].chunk(3)):
            out[f"{theirs}.self_attn.{part}_proj.{kind}"] = x
        for a, b in (("out", "self_attn.out_proj"), ("norm1", "layer_norm1"), ("norm2", "layer_norm2"), ("up", "mlp.fc1"), ("down", "mlp.fc2")):
            out[f"{theirs}.{b}.{kind}"] = state[f"{ours}.{a}.{kind}"]


def named(state: dict, shape: Shape) -> dict[str, torch.Tensor]:
    """All tensors by transformers' names."""
    out = {
        "logit_scale": state["scale"],
        "visual_projection.weight": state["vision_out.weight"], "text_projection.weight": state["text_out.weight"],
        "vision_model.embeddings.class_embedding": state["cls"],
        "vision_model.embeddings.patch_embedding.weight": state["patches.weight"],
        "vision_model.embeddings.position_embedding.weight": state["where"],
        "text_model.embeddings.token_embedding.weight": state["tokens.weight"],
        "text_model.embeddings.position_embedding.weight": state["order"],
    }
    # The name of the first norm is misspelt in transformers.
    for ours, theirs in (("pre", "vision_model.pre_layrnorm"), ("post", "vision_model.post_layernorm"), ("final", "text_model.final_layer_norm")):
        for kind in ("weight", "bias"):
            out[f"{theirs}.{kind}"] = state[f"{ours}.{kind}"]
    for i in range(shape.vision_blocks):
        block(state, f"vision.{i}", f"vision_model.encoder.layers.{i}", out)
    for i in range(shape.text_blocks):
        block(state, f"text.{i}", f"text_model.encoder.layers.{i}", out)
    return out


def read(folder: Path, shape: Shape) -> dict[str, torch.Tensor]:
    """The other way: an exported folder as a state of `Clip`, in f32."""
    have = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    blank = Clip(shape).state_dict()
    # Which of our numbers lie where in a tensor of theirs is found by exporting their places.
    places, at = {}, 0
    for name, x in blank.items():
        places[name] = torch.arange(at, at + x.numel()).view(x.shape)
        at += x.numel()
    flat = torch.empty(at)
    places["scale"] = places["scale"].view(())
    for name, place in named(places, shape).items():
        if have[name].shape != place.shape:
            raise SystemExit(f"{folder}: {name} is {list(have[name].shape)}; {list(place.shape)} is asked for")
        flat[place] = have[name]
    return {name: flat[places[name]].view(x.shape) for name, x in blank.items()}


# Nothing in CLIP's loss says how long features are, or how large what flows through a tower is: answers are cosines, and norms come before
# all else. PiNI adds noise to both, with sizes and rates that were made for CLIP, and attends without 1/sqrt(d). So the exported model has
# tokens that noise of deviation 0.02 outweighs, image features of some 0.45 in each component, and text features so long that the
# attention's first scores, whose deviation is |v| |t| / (3 sqrt(D)) with PyTorch's starting weights, are about 1.
TOKEN, COMPONENT = 0.0125, 0.45
EPSILON = 1e-5


def nearest(factor: float) -> float:
    """The power of two that is nearest: it changes no bit of a mantissa."""
    return 2.0 ** round(math.log2(factor))


@torch.no_grad()
def lengths(root: Path, net: Clip) -> tuple[float, float]:
    """Mean length of the features of validation pictures and of their names."""
    data = Data(root, 0)
    some = data.valid[:500]
    ids, end = data.encode([f"an icon of {data.entries[i]['concept']}" for i in some], net.shape.context)
    pictures, texts = net.encode_image(plain(data.pixels(some))), net.encode_text(ids, end)
    return float(pictures.norm(dim=-1).mean()), float(texts.norm(dim=-1).mean())


def resize(tensors: dict[str, torch.Tensor], shape: Shape, picture: float, text: float) -> float:
    """Gives tokens and features, now of the given lengths, those sizes, without changing a cosine.

    Returns the epsilon that the text tower's norms then need.
    """
    c = nearest(TOKEN / float(tensors["text_model.embeddings.token_embedding.weight"].float().std()))
    for name, x in tensors.items():
        if name.startswith("text_model") and any(part in name for part in ("_embedding.", ".out_proj.", ".mlp.fc2.")):
            tensors[name] = x * c
    v = nearest(COMPONENT * math.sqrt(shape.joint) / picture)
    t = nearest(3 * math.sqrt(shape.joint) / (v * picture * text))
    tensors["visual_projection.weight"] *= v
    tensors["text_projection.weight"] *= t
    print(f"features of pictures {picture:.1f} * {v:g} long, of texts {text:.1f} * {t:g}; tokens times {c:g}")
    return EPSILON * c * c


def config(s: Shape, text_epsilon: float) -> dict:
    common = {"hidden_act": "quick_gelu", "layer_norm_eps": EPSILON, "projection_dim": s.joint}
    return {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": s.joint, "logit_scale_init_value": 2.6592,
        "text_config": {"model_type": "clip_text_model", "hidden_size": s.text_width, "intermediate_size": 4 * s.text_width,
                        "num_hidden_layers": s.text_blocks, "num_attention_heads": s.text_heads, "max_position_embeddings": s.context,
                        "vocab_size": s.vocab, "bos_token_id": s.vocab - 2, "eos_token_id": s.vocab - 1, "pad_token_id": s.vocab - 1,
                        **common, "layer_norm_eps": text_epsilon},
        "vision_config": {"model_type": "clip_vision_model", "hidden_size": s.vision_width, "intermediate_size": 4 * s.vision_width,
                          "num_hidden_layers": s.vision_blocks, "num_attention_heads": s.vision_heads, "image_size": s.image,
                          "patch_size": s.patch, "num_channels": 3, **common},
    }


def preprocessing(s: Shape) -> dict:
    return {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": s.image}, "resample": 3,
            "do_center_crop": True, "crop_size": {"height": s.image, "width": s.image}, "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_convert_rgb": True}


def main() -> None:
    root, path, to = (Path(p) for p in sys.argv[1:4])
    have = torch.load(path, map_location="cpu", weights_only=False)
    shape = Shape(**have["shape"])
    to.mkdir(parents=True, exist_ok=True)
    net = Clip(shape).eval()
    net.load_state_dict(have["model"])
    tensors = named(have["model"], shape)
    # What training goes on from keeps its own sizes.
    epsilon = EPSILON if "--as-trained" in sys.argv[4:] else resize(tensors, shape, *lengths(root, net))
    tensors = {k: (v.half() if v.dim() else v.float()).contiguous().clone() for k, v in tensors.items()}
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    (to / "config.json").write_text(json.dumps(config(shape, epsilon), indent=1) + "\n")
    (to / "preprocessor_config.json").write_text(json.dumps(preprocessing(shape), indent=1) + "\n")
    rules = json.loads((root / "tokenizer" / "tokenizer.json").read_text())
    rules["truncation"] = {"direction": "Right", "max_length": CONTEXT, "strategy": "LongestFirst", "stride": 0}
    rules["padding"] = None
    (to / "tokenizer.json").write_text(json.dumps(rules, ensure_ascii=False) + "\n")
    size = sum(f.stat().st_size for f in to.iterdir()) / 1e6
    print(f"{to}: {sum(t.numel() for t in tensors.values()) / 1e6:.2f} M parameters, {size:.1f} MB, step {have['step']}, "
          f"scale {float(tensors['logit_scale'].exp()):.1f}")


if __name__ == "__main__":
    main()
