"""Writes models as people have them who never heard of safetensors, and LoRA adapters, with the features of both.

    pip install torch transformers==5.24.0 open_clip_torch==3.3.0 peft safetensors numpy
    python tests/reference/torch_files.py tests/fixtures/torch          # the committed ones
    python tests/reference/torch_files.py --full DIR                    # a ViT-B/32 in each form, some 600 MB each

The committed ones:

    openai.pt                  a traced TorchScript archive of halves, as OpenAI publishes CLIP
    tuned/checkpoint.pth       a training's checkpoint under `state_dict`, each name with `module.` in front, with views of
                               shared storages, transposed and channels-last tensors, and types mixed
    hf/                        a small model in safetensors
    hf-sharded/, hf-old/       the same in `pytorch_model.bin` shards, and in the format of torch before 1.6
    lora/NAME/                 adapters of peft: on hf/ (plain, patterns, fan) and on tuned/ (attention)

with `expected.safetensors` beside each or, for the two single files, NAME.expected.safetensors; see towers.py. Features are
computed in float64, for adapters through peft itself.
"""

import argparse
import copy
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import open_clip
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from towers import distance, expect, fresh, hf, hf_features, open_features, openclip, pictures, randomize, texts, tower

warnings.filterwarnings("ignore")


def open_model(config, seed, dtype):
    arguments = {k: v for k, v in config.items()}
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**copy.deepcopy(arguments))
    randomize(model, seed)
    return model.to(dtype).eval()


def inputs(config, seed, n=2):
    t = config["text_cfg"]
    vocabulary = t["vocab_size"]
    ids = texts(n, t["context_length"], vocabulary - 2, vocabulary - 1, 0, list(range(1, vocabulary - 2)), seed)
    return pictures(n, config["vision_cfg"]["image_size"], seed + 1), ids


def trace(model, config, path):
    """As open_clip and OpenAI do, in f32 on a CPU, then in the type of the weights."""
    pixels, ids = inputs(config, 1, n=1)
    plain = copy.deepcopy(model).float()
    with torch.no_grad():
        traced = torch.jit.trace_module(plain, {"forward": (pixels, ids.long()), "encode_image": (pixels,), "encode_text": (ids.long(),)})
    dtype = model.visual.conv1.weight.dtype
    traced = traced.to(dtype)
    torch.jit.save(traced, path)
    return torch.jit.load(path).state_dict()


def note_expected(path, model, config, seed):
    pixels, ids = inputs(config, seed)
    image, text = open_features(model, pixels, ids)
    folder = path.parent / "made"
    fresh(folder)
    expect(folder, pixels, ids, image, text)
    (folder / "expected.safetensors").rename(path)
    folder.rmdir()


def openai(root):
    config = dict(embed_dim=16, quick_gelu=True, vision_cfg=dict(image_size=16, layers=1, width=64, patch_size=8, mlp_ratio=0.5),
                  text_cfg=dict(context_length=6, vocab_size=40, width=64, heads=1, layers=1, mlp_ratio=0.5))
    model = open_model(config, 1, torch.float16)
    state = trace(model, config, root / "openai.pt")
    # Without what only debuggers need, which names files of the machine that it was made on.
    path = root / "openai.pt"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith(".debug_pkl")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    assert torch.equal(torch.jit.load(path).state_dict()["visual.proj"], model.visual.proj)
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value), name
    note_expected(root / "openai.expected.safetensors", model, config, 2)


TUNED = dict(embed_dim=12, quick_gelu=True, vision_cfg=dict(image_size=16, layers=1, width=24, head_width=12, patch_size=8),
             text_cfg=dict(context_length=7, vocab_size=50, width=16, heads=2, layers=2))


def tuned(root):
    folder = fresh(root / "tuned")
    model = open_model(TUNED, 3, torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith("c_fc.weight"):
            parameter.data = parameter.data.to(torch.bfloat16).float()
        if name.endswith("c_proj.weight"):
            parameter.data = parameter.data.half().float()
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith("c_fc.weight"):
            value = value.to(torch.bfloat16)
        if name.endswith("c_proj.weight"):
            value = value.half().t().contiguous().t()
        if name == "visual.conv1.weight":
            value = value.contiguous(memory_format=torch.channels_last)
        if name.endswith("in_proj_weight"):
            # Columns of a larger matrix.
            wide = torch.randn(value.shape[0], value.shape[1] + 5)
            wide[:, 3:-2] = value
            value = wide[:, 3:-2]
        if name.endswith("positional_embedding"):
            # Every other row of one, upside down in its storage's order of dimensions.
            large = torch.randn(value.shape[1], 2 * value.shape[0])
            large[:, ::2] = value.t()
            value = large[:, ::2].t()
        state["module." + name] = value
    # Two norms in one storage.
    both = torch.cat([state["module.visual.ln_pre.weight"], state["module.visual.ln_post.weight"]])
    state["module.visual.ln_pre.weight"], state["module.visual.ln_post.weight"] = both.split(both.numel() // 2)
    assert not state["module.visual.conv1.weight"].is_contiguous()
    optimizer = torch.optim.AdamW(model.parameters())
    extra = {"epoch": 7, "name": "tuned", "best": 0.5, "optimizer": optimizer.state_dict(), "args": argparse.Namespace(lr=1e-3)}
    torch.save({**extra, "state_dict": state, "scaler": None}, folder / "checkpoint.pth")
    described = {"model_cfg": TUNED, "preprocess_cfg": {"size": 16}}
    (folder / "open_clip_config.json").write_text(json.dumps(described, indent=2) + "\n")
    note_expected(folder / "expected.safetensors", model, TUNED, 4)
    plain = copy.deepcopy(model.state_dict())
    save_file({k: v.contiguous() for k, v in plain.items()}, folder / "plain.safetensors")
    return model


def small_hf(root):
    words = dict(bos_token_id=46, eos_token_id=47, pad_token_id=47)
    return hf(root / "hf", tower(24, 2, 2, 48, image_size=16, patch_size=8),
              tower(16, 1, 2, 40, vocab_size=48, max_position_embeddings=7, **words), 20, torch.float32, seed=5, n=2)


def other_forms(root, model):
    state = model.state_dict()
    names = sorted(state)
    sharded, old = fresh(root / "hf-sharded"), fresh(root / "hf-old")
    parts = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    for file, part in parts.items():
        torch.save({name: state[name] for name in part}, sharded / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")
    torch.save(state, old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    for folder in (sharded, old):
        for file in ("config.json", "preprocessor_config.json"):
            shutil.copy(root / "hf" / file, folder / file)


def lora(root, name, base, features, pixels, ids, said, **settings):
    """An adapter whose matrices matter, and the features of the model with it."""
    folder = fresh(root / "lora" / name)
    torch.manual_seed(len(name))
    model = get_peft_model(copy.deepcopy(base), LoraConfig(lora_dropout=0.0, **settings))
    rng = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for key, parameter in sorted(model.named_parameters()):
            if "lora_" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.3)
    model.peft_config["default"].base_model_name_or_path = said
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    if settings.get("fan_in_fan_out"):
        # peft sets it aside for linear layers, when an adapter is made as when it is read.
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "fan_in_fan_out": True}, indent=2) + "\n")
        # The other form of the matrices.
        path = folder / "adapter_model.safetensors"
        torch.save(load_file(path), folder / "adapter_model.bin")
        path.unlink()
    # What is saved is what is asked for the features.
    again = PeftModel.from_pretrained(copy.deepcopy(base).double(), folder).merge_and_unload()
    image, text = features(again, pixels, ids)
    plain = features(base, pixels, ids)
    assert (image - plain[0]).norm() > 1e-2 * plain[0].norm() and (text - plain[1]).norm() > 1e-2 * plain[1].norm(), name
    expect(folder, pixels, ids, image, text)


def small(root):
    root.mkdir(parents=True, exist_ok=True)
    openai(root)
    tuned_model = tuned(root)
    model, pixels, ids, *_ = small_hf(root)
    other_forms(root, model)
    on_hf = lambda m, p, i: hf_features(m, p, i, None)
    attention = ["q_proj", "v_proj"]
    lora(root, "plain", model, on_hf, pixels, ids, "../../hf", r=8, lora_alpha=16, target_modules=attention)
    lora(root, "patterns", model, on_hf, pixels, ids, None, r=4, lora_alpha=6, use_rslora=True,
         target_modules=[*attention, "fc1", "fc2", "out_proj", "patch_embedding", "visual_projection"],
         rank_pattern={"fc1": 3, "text_model.*q_proj": 2}, alpha_pattern={"vision_model.encoder.layers.1.mlp.fc1": 9, "fc1": 2})
    lora(root, "fan", model, on_hf, pixels, ids, None, r=8, lora_alpha=4, fan_in_fan_out=True, target_modules=["fc1", "k_proj"])
    pixels, ids = inputs(TUNED, 4)
    lora(root, "attention", tuned_model, open_features, pixels, ids, None, r=3, lora_alpha=5, target_modules=["attn", "c_fc"])


def full(root):
    root.mkdir(parents=True, exist_ok=True)
    config = dict(embed_dim=512, quick_gelu=True, vision_cfg=dict(image_size=224, layers=12, width=768, patch_size=32),
                  text_cfg=dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12))
    model = open_model(config, 1, torch.float32)
    trace(model, config, root / "jit.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, root / "pickle.pt")
    torch.save(model.state_dict(), root / "old.pt", _use_new_zipfile_serialization=False)
    (root / "safetensors").mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, root / "safetensors" / "model.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=Path, nargs="?")
    parser.add_argument("--full", type=Path)
    args = parser.parse_args()
    if args.small:
        small(args.small)
    if args.full:
        full(args.full)
