"""Writes CLIP models with random weights, as the libraries save them, and the features that those libraries compute.

    pip install torch transformers==5.24.0 open_clip_torch==3.3.0 safetensors numpy
    python tests/reference/towers.py --small tests/fixtures     # the committed models and refused configurations
    python tests/reference/towers.py --full towers [NAME...]    # the sizes that people use, some GB

Each model is a folder as a hub has it, with `expected.safetensors` beside the weights:

    pixels [N,3,S,S]   ids [N,context]   image_features [N,D]   text_features [N,D]   (not normalised)

Features are computed in float64 by the library's own code, from the weights as they were stored. The weights are drawn so
that every part of a tower matters: a wrong activation, position or end token moves features by far more than the tests
allow, which this script checks for the small models.
"""

import argparse
import copy
import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import torch
import transformers
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import load_file, save_file
import timm
from timm.models import vision_transformer_hybrid
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, MetaClip2Config, MetaClip2Model, SiglipConfig
from transformers import RobertaConfig, SiglipImageProcessor, SiglipModel, XLMRobertaConfig

torch.set_num_threads(2)
# One entry: several would be written in an order of their own each time.
VERSIONS = {"made with": f"transformers {transformers.__version__}, open_clip {open_clip.__version__}"}


def randomize(model, seed):
    """Weights that keep activations near 1 and let every part of the tower count."""
    rng = torch.Generator().manual_seed(seed)
    draw = lambda p: torch.randn(p.shape, generator=rng)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if name.endswith("logit_scale"):
                p.fill_(np.log(50.0))
            elif name.endswith("logit_bias"):
                p.fill_(-10.0)
            elif name.endswith(("cls_token", "pos_embed", "latent", "probe")):
                p.copy_(draw(p) * 0.4)
            elif "embedding" in name or name.endswith("class_embedding"):
                fan = p[0].numel() if "patch" in name else None
                p.copy_(draw(p) * (fan ** -0.5 if fan else 0.4))
            elif p.ndim == 1 and name.endswith("weight"):
                p.copy_(1 + 0.2 * draw(p))
            elif p.ndim == 1:
                p.copy_(0.2 * draw(p))
            else:
                # [out, in, ...], but for open_clip's projections [in, out].
                transposed = name.endswith(("proj", "text_projection")) and p.ndim == 2
                fan = p.shape[0] if transposed else p[0].numel()
                p.copy_(draw(p) * 1.4 * fan ** -0.5)
        for name, b in sorted(model.named_buffers()):
            if name.endswith("running_mean"):
                b.copy_(0.3 * draw(b))
            elif name.endswith("running_var"):
                b.copy_(0.5 + 1.5 * torch.rand(b.shape, generator=rng))


def texts(n, context, start, end, pad, words, seed):
    """Padded texts of several lengths, one of them as long as the context."""
    rng = np.random.default_rng(seed)
    ids = np.full((n, context), pad, np.int32)
    for i in range(n):
        length = context if i == n - 1 else int(rng.integers(3, max(4, context - 1)))
        ids[i, 0] = start
        ids[i, 1 : length - 1] = rng.choice(words, length - 2)
        ids[i, length - 1] = end
    return torch.from_numpy(ids)


def pictures(n, size, seed):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed)).float()


def distance(a, b):
    return ((a - b).norm(dim=-1) / b.norm(dim=-1)).max().item()


def expect(folder, pixels, ids, image, text):
    save_file(
        {
            "pixels": pixels.contiguous(),
            "ids": ids.contiguous(),
            "image_features": image.float().contiguous(),
            "text_features": text.float().contiguous(),
        },
        folder / "expected.safetensors",
        metadata=VERSIONS,
    )


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# --- transformers ------------------------------------------------------------------------------------------------------


def hf_features(model, pixels, ids, pad):
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        mask = (ids != pad).long() if pad is not None else None
        image = model.get_image_features(pixel_values=pixels.double())
        text = model.get_text_features(input_ids=ids.long(), attention_mask=mask)
    # Newer versions give an output object.
    take = lambda x: x if torch.is_tensor(x) else x.pooler_output
    return take(image), take(text)


def hf(folder, vision, text, projection, dtype=torch.float32, shard=None, seed=0, n=3, words=None, end=None, pad=None):
    """A folder as `CLIPModel.save_pretrained` writes it."""
    fresh(folder)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection)
    model = CLIPModel(config)
    randomize(model, seed)
    model = model.to(dtype)
    options = {"max_shard_size": shard} if shard else {}
    model.save_pretrained(folder, **options)
    size = config.vision_config.image_size
    mean = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}, **mean).save_pretrained(folder)
    t = config.text_config
    vocabulary = t.vocab_size
    end = vocabulary - 1 if end is None else end
    words = words or range(1, vocabulary - 2)
    pad = end if pad is None else pad
    ids = texts(n, t.max_position_embeddings, vocabulary - 2, end, pad, list(words), seed + 1)
    pixels = pictures(n, size, seed + 2)
    # No mask: attention is causal, and what follows the end token cannot change it.
    image, text_features = hf_features(model, pixels, ids, None)
    expect(folder, pixels, ids, image, text_features)
    return model, pixels, ids, image, text_features


def check_hf(made):
    """A wrong activation must show."""
    model, pixels, ids, image, text = made
    for part in ("vision_model", "text_model"):
        other = copy.deepcopy(model)
        quick = transformers.activations.ACT2FN["quick_gelu"]
        gelu = transformers.activations.ACT2FN["gelu"]
        for module in getattr(other, part).modules():
            if hasattr(module, "activation_fn"):
                module.activation_fn = gelu if type(module.activation_fn) is type(quick) else quick
        wrong = hf_features(other, pixels, ids, None)
        off = distance(wrong[0], image) if part == "vision_model" else distance(wrong[1], text)
        assert off > 1e-3, (part, off)


def siglip(folder, vision, text, dtype=torch.float32, seed=0, n=3):
    """A folder as `SiglipModel.save_pretrained` writes it. Texts are padded to the whole context, and all of it counts."""
    fresh(folder)
    config = SiglipConfig(text_config=text, vision_config=vision)
    model = SiglipModel(config)
    randomize(model, seed)
    model = model.to(dtype)
    model.save_pretrained(folder)
    size = config.vision_config.image_size
    SiglipImageProcessor(size={"height": size, "width": size}).save_pretrained(folder)
    t = config.text_config
    ids = texts(n, t.max_position_embeddings, 3, 1, 0, list(range(2, t.vocab_size)), seed + 1)
    pixels = pictures(n, size, seed + 2)
    image, text_features = hf_features(model, pixels, ids, None)
    expect(folder, pixels, ids, image, text_features)
    # What the tests must be able to tell: padding, the pool's query, tanh in GELU.
    shifted = ids.clone()
    shifted[:, 1] = 5
    assert distance(hf_features(model, pixels, shifted, None)[1], text_features) > 1e-3
    for change in (lambda m: m.vision_model.head.probe.data.zero_(), lambda m: setattr_all(m, "activation_fn", torch.nn.GELU())):
        other = copy.deepcopy(model)
        change(other)
        assert distance(hf_features(other, pixels, ids, None)[0], image) > 1e-4


def setattr_all(model, name, value):
    for module in model.modules():
        if hasattr(module, name):
            setattr(module, name, value)


def metaclip2(folder, vision, text, projection, end, seed=0, n=3):
    """A folder as `MetaClip2Model.save_pretrained` writes it; its end token's id is 2, and not a remnant."""
    fresh(folder)
    config = MetaClip2Config(text_config={**text, "eos_token_id": end}, vision_config=vision, projection_dim=projection)
    model = MetaClip2Model(config)
    randomize(model, seed)
    model.save_pretrained(folder)
    size, t = config.vision_config.image_size, config.text_config
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}).save_pretrained(folder)
    ids = texts(n, t.max_position_embeddings, 0, end, 1, list(range(end + 1, t.vocab_size)), seed + 1)
    pixels = pictures(n, size, seed + 2)
    image, text_features = hf_features(model, pixels, ids, None)
    expect(folder, pixels, ids, image, text_features)


# --- open_clip ---------------------------------------------------------------------------------------------------------


def open_features(model, pixels, ids):
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        return model.encode_image(pixels.double()), model.encode_text(ids.long())


def openclip(folder, config, preprocess=None, dtype=torch.float32, seed=0, n=3, openai=False, ids=None, pickled=False):
    """A folder as open_clip pushes it to a hub; with `openai`, a state dict with OpenAI's names and nothing beside it; `pickled`,
    with a file of torch's only."""
    fresh(folder)
    config = copy.deepcopy(config)
    arguments = copy.deepcopy({k: v for k, v in config.items() if k != "custom_text"})
    foreign = "hf_model_name" in config["text_cfg"]
    if foreign:
        arguments["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip.model.CustomTextCLIP if foreign or config.get("custom_text") else open_clip.model.CLIP
    model = kind(**arguments)
    randomize(model, seed)
    # OpenAI's files keep vectors and embeddings in f32 beside matrices in f16, and three integers that say what the shapes do.
    small = lambda k, v: not v.is_floating_point() or (openai and (v.ndim < 2 or "embedding" in k))
    state = {k: v.to(v.dtype if small(k, v) else dtype).contiguous() for k, v in model.state_dict().items()}
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    if foreign:
        # A buffer that files had until transformers 4.31.
        count = len(model.text.transformer.embeddings.position_embeddings.weight)
        state["text.transformer.embeddings.position_ids"] = torch.arange(count).unsqueeze(0)
    size = config["vision_cfg"]["image_size"]
    if openai:
        more = {"input_resolution": size, "context_length": config["text_cfg"]["context_length"],
                "vocab_size": config["text_cfg"]["vocab_size"]}
        state.update({k: torch.tensor(v) for k, v in more.items()})
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        if pickled:
            torch.save(state, folder / "open_clip_pytorch_model.bin")
        else:
            save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
        cfg = {**dataclasses.asdict(open_clip.transform.PreprocessCfg(size=size)), **(preprocess or {})}
        open_clip.model.set_model_preprocess_cfg(model, cfg)
        save_config_for_hf(model, folder / "open_clip_config.json", config)
    if ids is None:
        t = config["text_cfg"]
        vocabulary = t["vocab_size"]
        end = t.get("eos_id", vocabulary - 1)
        words = [i for i in range(1, vocabulary - 2) if i != end]
        ids = texts(n, t["context_length"], vocabulary - 2, end, 0, words, seed + 1)
    pixels = pictures(n, size, seed + 2)
    image, text = open_features(model, pixels, ids)
    expect(folder, pixels, ids, image, text)
    return model, pixels, ids, image, text


def smaller(folder, name, trunk, embedding, text, seed, n=3, **more):
    """One of open_clip's models around a tower from timm, which is named in the configuration, with that tower's sizes
    changed to those of `trunk`: they stand beside it, for the tests."""
    config = json.loads((Path(open_clip.__file__).parent / "model_configs" / f"{name}.json").read_text())
    config["embed_dim"] = embedding
    config["vision_cfg"]["image_size"] = trunk["img_size"]
    config["text_cfg"].update(text)
    config["text_cfg"].pop("hf_tokenizer_name", None)
    create, stem = timm.create_model, vision_transformer_hybrid.ConvStem
    width = trunk["embed_dim"]
    sizes = {**trunk, **more}
    timm.create_model = lambda *a, **k: create(*a, **{**k, **sizes})
    if "mci" in config["vision_cfg"]["timm_model_name"]:
        vision_transformer_hybrid.ConvStem = lambda **k: stem(**{**k, "channels": (width // 4, width // 4, width)})
    try:
        made = openclip(folder, config, seed=seed, n=n)
    finally:
        timm.create_model, vision_transformer_hybrid.ConvStem = create, stem
    vision = made[0].visual.trunk
    mlp = vision.blocks[0].mlp
    pool = getattr(vision, "attn_pool", None)
    facts = {
        "width": width,
        "layers": trunk["depth"],
        "heads": trunk["num_heads"],
        "mlp": getattr(mlp, "fc1", getattr(mlp, "fc1_x", None)).out_features,
        "patch": trunk.get("patch_size", 16),
        "size": trunk["img_size"],
        "reference": more.get("ref_feat_shape", (0, 0))[0],
        "pool heads": pool.num_heads if pool else 0,
        "pool mlp": pool.mlp.fc1.out_features if pool else 0,
    }
    (folder / "sizes.json").write_text(json.dumps(facts) + "\n")
    return made


def roberta(folder, config, kind, sizes, seed, context=77, **more):
    """One of open_clip's models around a text tower from transformers, which is named in the configuration, with that tower's
    sizes changed to `sizes`; where these are not the name's own they stand beside it, for the tests."""
    # What all published ones have in common.
    text = kind(**{"max_position_embeddings": 514, "layer_norm_eps": 1e-5, "type_vocab_size": 1, **sizes})
    automatic = open_clip.hf_model.AutoConfig.from_pretrained
    open_clip.hf_model.AutoConfig.from_pretrained = lambda name: text
    n, pad = 4, text.pad_token_id
    ids = texts(n, context, text.bos_token_id, text.eos_token_id, pad, list(range(3, text.vocab_size)), seed + 1)
    # Padding has no position and is seen by nothing, wherever it stands: within the longest text, too.
    ids[n - 1, 2] = pad
    try:
        made = openclip(folder, config, seed=seed, n=n, ids=ids, **more)
    finally:
        open_clip.hf_model.AutoConfig.from_pretrained = automatic
    if context != 77:
        facts = {
            "width": text.hidden_size,
            "layers": text.num_hidden_layers,
            "heads": text.num_attention_heads,
            "mlp": text.intermediate_size,
            "positions": text.max_position_embeddings,
            "vocabulary": text.vocab_size,
        }
        (folder / "sizes.json").write_text(json.dumps(facts) + "\n")
    model, pixels, ids, image, features = made
    assert not (ids == pad).all(dim=1).any() and (ids == pad).any(dim=1).sum() > 1
    # What the tests must be able to tell.
    embeddings = lambda m: m.text.transformer.embeddings
    changes = [
        lambda m: embeddings(m).token_type_embeddings.weight.data.zero_(),
        lambda m: embeddings(m).position_embeddings.weight.data.copy_(embeddings(m).position_embeddings.weight.data.roll(1, 0)),
        lambda m: setattr_all(m.text, "intermediate_act_fn", open_clip.transformer.QuickGELU()),
        # Padding seen.
        lambda m: setattr(m.text.config, "pad_token_id", 7),
    ]
    if isinstance(model.text.proj, torch.nn.Sequential):
        changes.append(lambda m: m.text.proj.__setitem__(1, torch.nn.Identity()))
    for i, change in enumerate(changes):
        other = copy.deepcopy(model)
        change(other)
        off = distance(open_features(other, pixels, ids)[1], features)
        assert off > 1e-3, (i, off)
    return made


def robertas(towers):
    vision = dict(image_size=24, layers=2, width=36, head_width=12, patch_size=8)
    named = lambda name, **text: dict(
        embed_dim=24, vision_cfg=vision, text_cfg={"hf_model_name": name, "hf_tokenizer_name": name, "context_length": 12, **text})
    roberta(towers / "openclip-xlm-roberta", named("xlm-roberta-base", hf_pooler_type="mean_pooler"), XLMRobertaConfig,
            tower(36, 2, 3, 76, hidden_act="gelu", vocab_size=96, max_position_embeddings=16), 350, context=12)
    roberta(towers / "openclip-roberta-f16-odd", dict(named("roberta-base", hf_proj_type="linear"), quick_gelu=True), RobertaConfig,
            tower(30, 2, 2, 70, hidden_act="gelu", vocab_size=77, max_position_embeddings=14), 360, context=12, dtype=torch.float16,
            pickled=True)


def check_open(made):
    """A wrong activation must show."""
    model, pixels, ids, image, text = made
    other = copy.deepcopy(model)
    for module in other.modules():
        for name, child in list(module.named_children()):
            if name == "gelu":
                setattr(module, name, torch.nn.GELU() if type(child) is not torch.nn.GELU else open_clip.transformer.QuickGELU())
    wrong = open_features(other, pixels, ids)
    resnet = type(model.visual).__name__ == "ModifiedResNet"
    assert distance(wrong[1], text) > 1e-3 and (resnet or distance(wrong[0], image) > 1e-3)


# --- what there is -----------------------------------------------------------------------------------------------------


def tower(width, layers, heads, mlp, **more):
    names = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=mlp)
    return {**names, "hidden_act": "quick_gelu", **more}


def small(root):
    towers = root / "towers"
    words = dict(bos_token_id=94, eos_token_id=95, pad_token_id=95)
    check_hf(hf(towers / "hf-vit", tower(48, 3, 3, 160, image_size=32, patch_size=8),
                tower(32, 2, 4, 96, vocab_size=96, max_position_embeddings=12, **words), 40, seed=10))
    check_hf(hf(towers / "hf-gelu", tower(36, 2, 3, 100, image_size=24, patch_size=8, hidden_act="gelu", layer_norm_eps=1e-6),
                tower(40, 2, 5, 88, hidden_act="gelu", layer_norm_eps=1e-6, vocab_size=80, max_position_embeddings=9,
                      bos_token_id=78, eos_token_id=2, pad_token_id=1), 56, seed=20, pad=1))
    # Ids above the end token occur before it: only the first end token counts.
    check_hf(hf(towers / "hf-eos", tower(32, 2, 2, 64, image_size=16, patch_size=8),
                tower(32, 2, 2, 64, vocab_size=90, max_position_embeddings=10, bos_token_id=88, eos_token_id=40,
                      pad_token_id=0), 24, seed=30, end=40, pad=0, words=[*range(1, 40), *range(41, 88), 89]))
    older_layout(towers / "hf-config-dict", towers / "hf-gelu")
    hf(towers / "hf-sharded-bf16", tower(48, 2, 4, 192, image_size=32, patch_size=16),
       tower(32, 2, 2, 128, vocab_size=96, max_position_embeddings=8, **words), 32, torch.bfloat16, "60KB", seed=40)
    hf(towers / "hf-f16-odd", tower(30, 3, 3, 90, image_size=25, patch_size=5),
       tower(26, 2, 2, 70, vocab_size=77, max_position_embeddings=13, bos_token_id=75, eos_token_id=76, pad_token_id=76),
       22, torch.float16, seed=50)
    text = dict(context_length=11, vocab_size=90, width=32, heads=4, layers=2)
    vision = dict(image_size=32, layers=2, width=40, head_width=20, patch_size=8)
    check_open(openclip(towers / "openclip-vit", dict(embed_dim=24, vision_cfg=vision, text_cfg=text), seed=60))
    check_open(openclip(
        towers / "openclip-quick",
        dict(embed_dim=40, quick_gelu=True, vision_cfg=dict(image_size=28, layers=3, width=48, head_width=16, patch_size=7,
                                                           mlp_ratio=2.6667),
             text_cfg={**text, "mlp_ratio": 3.0, "layers": 3}), seed=70))
    check_open(openclip(
        towers / "openclip-custom-text",
        dict(embed_dim=24, custom_text=True, vision_cfg=vision, text_cfg={**text, "width": 36, "heads": 3}),
        dict(resize_mode="squash", interpolation="bilinear", mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]), seed=80))
    check_open(openclip(
        towers / "openclip-rn",
        dict(embed_dim=20, quick_gelu=True, vision_cfg=dict(image_size=64, layers=[1, 2, 1, 1], width=8, head_width=32, patch_size=None),
             text_cfg=text), dtype=torch.float16, seed=90, n=2))
    openclip(towers / "openai",
             dict(embed_dim=32, quick_gelu=True, vision_cfg=dict(image_size=16, layers=1, width=128, patch_size=8),
                  text_cfg=dict(context_length=8, vocab_size=70, width=64, heads=1, layers=1)),
             dtype=torch.float16, seed=100, openai=True)
    openclip(towers / "openai-rn",
             dict(embed_dim=20, quick_gelu=True, vision_cfg=dict(image_size=32, layers=[1, 1, 2, 1], width=6, head_width=64),
                  text_cfg=dict(context_length=8, vocab_size=70, width=64, heads=1, layers=1)),
             dtype=torch.float16, seed=110, openai=True, n=2)
    siglip(towers / "hf-siglip", tower(36, 2, 3, 76, image_size=24, patch_size=8, hidden_act="gelu_pytorch_tanh"),
           tower(24, 2, 4, 58, hidden_act="gelu_pytorch_tanh", vocab_size=96, max_position_embeddings=12, projection_size=36), seed=200)
    siglip(towers / "hf-siglip-f16-odd", tower(30, 2, 2, 70, image_size=26, patch_size=5, hidden_act="gelu_pytorch_tanh"),
           tower(30, 2, 3, 50, hidden_act="gelu_pytorch_tanh", vocab_size=77, max_position_embeddings=7), torch.float16, seed=210)
    metaclip2(towers / "hf-metaclip2", tower(32, 2, 2, 64, image_size=16, patch_size=8),
              tower(32, 2, 2, 64, vocab_size=90, max_position_embeddings=10), 24, 2, seed=220)
    tiny = dict(context_length=9, vocab_size=70, width=24, heads=2, layers=1)
    vision = dict(image_size=24, layers=2, width=36, head_width=12, patch_size=8)
    check_open(openclip(
        towers / "openclip-clipa",
        dict(embed_dim=24, vision_cfg={**vision, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
             text_cfg={**tiny, "pool_type": "last", "no_causal_mask": True}), seed=230))
    openclip(towers / "openclip-mean-of-normed",
             dict(embed_dim=24, vision_cfg={**vision, "pool_type": "avg"}, text_cfg=tiny), seed=240)
    check_open(openclip(towers / "openclip-layerscale",
                        dict(embed_dim=24, vision_cfg={**vision, "ls_init_value": 1e-4}, text_cfg={**tiny, "ls_init_value": 1e-4}),
                        seed=250))
    trunk = dict(embed_dim=36, depth=2, num_heads=3, img_size=32, patch_size=8)
    smaller(towers / "timm-siglip2", "ViT-B-32-SigLIP2-256", trunk, 36, {**tiny, "width": 32}, 260)
    smaller(towers / "timm-siglip-i18n", "ViT-SO400M-16-SigLIP-i18n-256", trunk, 36, {**tiny, "width": 36}, 270)
    smaller(towers / "timm-eva", "EVA01-g-14", {**trunk, "num_heads": 2}, 24, tiny, 280, mlp_ratio=3.5)
    smaller(towers / "timm-eva02-e", "EVA02-E-14", {**trunk, "num_heads": 2}, 24, tiny, 285, mlp_ratio=3.0)
    smaller(towers / "timm-eva02", "EVA02-B-16", trunk, 24, tiny, 290, ref_feat_shape=(5, 5))
    smaller(towers / "timm-pe-core", "PE-Core-B-16", trunk, 24, tiny, 300, ref_feat_shape=(7, 7),
            attn_pool_num_heads=6)
    smaller(towers / "timm-pe-core-g", "PE-Core-bigG-14-448", {**trunk, "num_heads": 1}, 24, tiny, 310, ref_feat_shape=(4, 4),
            attn_pool_num_heads=3, mlp_ratio=3.0)
    smaller(towers / "timm-mobileclip-b", "MobileCLIP2-B", dict(embed_dim=36, depth=2, num_heads=3, img_size=32), 24, tiny, 320)
    smaller(towers / "timm-mobileclip-l", "MobileCLIP2-L-14", {**trunk, "num_heads": 2}, 24, tiny, 330)
    smaller(towers / "timm-mean", "vit_medium_patch16_gap_256", trunk, 24, tiny, 340)
    robertas(towers)
    refused(root / "refused")
    configurations(root / "open_clip_models.jsonl.gz")


def older_layout(folder, source):
    """The same model with its configuration as old versions wrote it: what ends in _dict counts, the rest is stale."""
    shutil.copytree(source, fresh(folder), dirs_exist_ok=True)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for part in ("text_config", "vision_config"):
        config[f"{part}_dict"] = dict(config[part])
        config[part]["hidden_act"] = "quick_gelu"
        config[part]["num_attention_heads"] = 1
    path.write_text(json.dumps(config, indent=2) + "\n")
    # transformers reads it so, too.
    want = load_file(folder / "expected.safetensors")
    model = CLIPModel.from_pretrained(folder)
    image, text = hf_features(model, want["pixels"], want["ids"], None)
    assert distance(image, want["image_features"].double()) < 1e-6 and distance(text, want["text_features"].double()) < 1e-6


def configurations(path):
    """All models that open_clip knows, a line each."""
    configs = Path(open_clip.__file__).parent / "model_configs"
    lines = [json.dumps({"name": f.stem, "model_cfg": json.loads(f.read_text())}) for f in sorted(configs.glob("*.json"))]
    with open(path, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(("\n".join(lines) + "\n").encode())


def refused(root):
    """Configurations of families that need more than a CLIP."""
    configs = Path(open_clip.__file__).parent / "model_configs"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("MobileCLIP-S1", "MobileCLIP2-S0", "coca_ViT-B-32", "mt5-base-ViT-B-32", "convnext_base", "nllb-clip-base",
                 "nllb-clip-base-siglip", "ViTamin-B", "swin_base_patch4_window7_224", "vit_relpos_medium_patch16_cls_224"):
        path = configs / f"{name}.json"
        if path.exists():
            folder = fresh(root / name.lower())
            size = json.loads(path.read_text())["vision_cfg"].get("image_size", 224)
            cfg = {"model_cfg": json.loads(path.read_text()), "preprocess_cfg": {"size": size}}
            (folder / "open_clip_config.json").write_text(json.dumps(cfg, indent=2) + "\n")
    for name in ("Siglip2Config", "ChineseCLIPConfig", "AltCLIPConfig", "CLIPSegConfig"):
        kind = getattr(transformers, name, None)
        if kind:
            folder = fresh(root / f"hf-{kind.model_type}")
            (folder / "config.json").write_text(json.dumps(kind().to_diff_dict(), indent=2) + "\n")


def full(root, only):
    text = lambda width, heads, layers=12: tower(width, layers, heads, 4 * width, vocab_size=49408,
                                                 max_position_embeddings=77, bos_token_id=49406, eos_token_id=2)
    ends = dict(n=2, end=49407, words=range(1, 49406))
    open_text = dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12)
    cases = {
        "vit-b-32-hf": lambda p: hf(p, tower(768, 12, 12, 3072, image_size=224, patch_size=32), text(512, 8), 512, seed=1, **ends),
        "vit-b-16-openclip": lambda p: openclip(p, dict(
            embed_dim=512, quick_gelu=True, vision_cfg=dict(image_size=224, layers=12, width=768, patch_size=16),
            text_cfg=open_text), seed=2, n=2),
        "vit-l-14-hf": lambda p: hf(p, tower(1024, 24, 16, 4096, image_size=224, patch_size=14), text(768, 12), 768, seed=3, **ends),
        "laion-vit-b-32-openclip": lambda p: openclip(p, dict(
            embed_dim=512, vision_cfg=dict(image_size=224, layers=12, width=768, patch_size=32), text_cfg=open_text), seed=4, n=2),
        "tinyclip-vit-8m-16-hf": lambda p: hf(p, tower(256, 10, 4, 1024, image_size=224, patch_size=16), text(256, 4, 3), 512,
                                              seed=5, **ends),
        "rn50-openclip": lambda p: openclip(p, dict(
            embed_dim=1024, quick_gelu=True, vision_cfg=dict(image_size=224, layers=[3, 4, 6, 3], width=64), text_cfg=open_text),
            seed=6, n=2),
        "siglip-b-16-224-hf": lambda p: siglip(p, dict(image_size=224, patch_size=16), dict(), seed=7, n=2),
        "siglip2-b-16-256-hf": lambda p: siglip(p, dict(image_size=256, patch_size=16), dict(vocab_size=256_000), seed=8, n=2),
        "siglip-so400m-14-384-hf": lambda p: siglip(
            p, tower(1152, 27, 16, 4304, image_size=384, patch_size=14, hidden_act="gelu_pytorch_tanh"),
            tower(1152, 27, 16, 4304, hidden_act="gelu_pytorch_tanh"), seed=9, n=1),
    }
    for i, name in enumerate(["ViT-B-16-SigLIP2", "EVA02-B-16", "PE-Core-B-16", "MobileCLIP2-B", "MobileCLIP2-L-14", "ViT-L-14-CLIPA",
                              "ViT-M-16-alt", "ViT-L-14-worldwide"]):
        config = json.loads((Path(open_clip.__file__).parent / "model_configs" / f"{name}.json").read_text())
        config["text_cfg"].pop("hf_tokenizer_name", None)
        cases[f"{name.lower()}-openclip"] = lambda p, config=config, i=i: openclip(p, config, seed=20 + i, n=2)
    for i, (name, kind) in enumerate([("roberta-ViT-B-32", RobertaConfig), ("xlm-roberta-base-ViT-B-32", XLMRobertaConfig)]):
        config = json.loads((Path(open_clip.__file__).parent / "model_configs" / f"{name}.json").read_text())
        sizes = {"vocab_size": 50265 if kind is RobertaConfig else 250002}
        cases[f"{name.lower()}-openclip"] = lambda p, config=config, kind=kind, sizes=sizes, i=i: roberta(p, config, kind, sizes, 40 + i)
    for name, make in cases.items():
        if not only or name in only:
            print(name, flush=True)
            make(root / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path)
    parser.add_argument("--full", type=Path)
    parser.add_argument("only", nargs="*")
    args = parser.parse_args()
    if args.small:
        small(args.small)
    if args.full:
        full(args.full, args.only)
