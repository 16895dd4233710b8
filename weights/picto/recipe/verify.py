"""Loads an exported model with transformers, compares it with the state it came from, and states zero-shot figures.

    python verify.py DIR STATE.pt MODEL [--pictures DIR/pictos]

This is where the held-out sets are looked at, at the end of a stage and never to choose anything.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from model import Clip, Shape

TEMPLATES = ["{}", "an icon of {}", "a photo of a {}.", "x " * 16 + "an icon of {}."]


def pictures(files: list[Path]) -> torch.Tensor:
    x = np.stack([np.asarray(Image.open(f).convert("RGB"), np.float32) for f in files])
    return (torch.from_numpy(x).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5


def features(out) -> torch.Tensor:
    """transformers gives a tensor or an output that holds one, as its version has it."""
    return F.normalize(out if torch.is_tensor(out) else out.pooler_output, dim=-1)


@torch.no_grad()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir", type=Path)
    p.add_argument("state", type=Path)
    p.add_argument("model", type=Path)
    p.add_argument("--pictures", type=Path)
    a = p.parse_args()
    model = CLIPModel.from_pretrained(a.model).float().eval()
    tokenizer = CLIPTokenizer.from_pretrained(a.model)
    have = torch.load(a.state, map_location="cpu", weights_only=False)
    ours = Clip(Shape(**have["shape"])).eval()
    ours.load_state_dict(have["model"])
    root = a.pictures or a.dir / "pictos"
    files = sorted(root.glob("shifted/*/*.png"))[::40][:24]
    texts = [f"an icon of {f.parent.name.replace('_', ' ')}." for f in files]
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=ours.shape.context, return_tensors="pt")
    ids = tokens["input_ids"]
    end = (ids == ours.shape.vocab - 1).int().argmax(1)
    x = pictures(files)
    theirs = model(input_ids=ids, attention_mask=tokens["attention_mask"], pixel_values=x).logits_per_image
    mine = ours.logit_scale() * F.normalize(ours.encode_image(x), dim=-1) @ F.normalize(ours.encode_text(ids, end), dim=-1).T
    worst = float((theirs - mine).abs().max())
    print(f"logits differ by at most {worst:.3f} of {float(mine.abs().max()):.1f} (f16 weights)")
    if worst > 0.02 * float(mine.abs().max()) + 0.02:
        raise SystemExit("the exported model is not the trained one")
    report = {"step": have["step"]}
    for kind in ("shifted", "novel", "generic"):
        top = root / kind if kind != "generic" else root.parent / f"{root.name}-generic"
        names = sorted(d.name for d in top.iterdir() if d.is_dir())
        files = [f for n in names for f in sorted((top / n).glob("*.png"))]
        right = torch.tensor([names.index(f.parent.name) for f in files])
        f = torch.cat([features(model.get_image_features(pixel_values=pictures(files[i:i + 256]))) for i in range(0, len(files), 256)])
        for template in TEMPLATES:
            tokens = tokenizer([template.format(n.replace("_", " ")) for n in names], padding=True, return_tensors="pt")
            w = features(model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]))
            score = round(100 * float(((f @ w.T).argmax(1) == right).float().mean()), 1)
            report[f"{kind} {template[-20:]}"] = score
            print(f"held out, {kind}: {len(files)} pictures of {len(names)}, {template!r}: zero-shot {score} %")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
