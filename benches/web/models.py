#!/usr/bin/env python3
"""What speed.sh compares with: a random ViT-B/32 as a hub has it, and image towers as ONNX files.

    models.py random FOLDER        # f16, in shards of at most 100 MB with an index
    models.py onnx FOLDER FILE     # the image tower of a CLIP of transformers, in f32, for any number of pictures

Needs torch, transformers and, for ONNX, onnx and onnxscript; for the random model also what tests/reference/towers.py needs.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import CLIPVisionModelWithProjection

REPOSITORY = Path(__file__).resolve().parents[2]


def random(folder):
    sys.path.insert(0, str(REPOSITORY / "tests/reference"))
    from towers import hf, tower

    words = dict(vocab_size=49408, max_position_embeddings=77, bos_token_id=49406, eos_token_id=2)
    image, text = tower(768, 12, 12, 3072, image_size=224, patch_size=32), tower(512, 12, 8, 2048, **words)
    hf(folder, image, text, 512, torch.float16, "100MB", seed=1, n=2, end=49407, words=range(1, 49406))
    shutil.copy(REPOSITORY / "tests/golden/tokenizer_full/tokenizer.json", folder)


class Features(torch.nn.Module):
    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, pixels):
        return self.tower(pixel_values=pixels).image_embeds


def onnx(folder, file):
    tower = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32)
    size = tower.config.image_size
    torch.onnx.export(
        Features(tower).eval(),
        (torch.randn(2, 3, size, size),),
        file,
        input_names=["pixels"],
        output_names=["features"],
        dynamic_shapes=[{0: torch.export.Dim("pictures")}],
        external_data=False,
        dynamo=True,
    )


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    {"random": random, "onnx": onnx}[what](*map(Path, arguments))
