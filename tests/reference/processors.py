"""Writes what the image processors of transformers and open_clip make of a few pictures, and the settings that they were given.

    pip install transformers==5.24.0 open_clip_torch==3.3.0 pillow==12.3.0 torchvision safetensors
    python tests/reference/processors.py tests/fixtures/processors

The folder then holds, for each KIND, KIND.json (preprocessor_config.json, or open_clip's preprocess_cfg), and in
`expected.safetensors` KIND/PICTURE, the pixels [3, SIZE, SIZE] of a picture of the repository. The processors resize with Pillow: what
transformers takes where torchvision is installed rounds elsewhere. `--difference` says by how much, on pictures of the
repository, and writes nothing.
"""

import argparse
import json
import pathlib

import numpy as np
from open_clip.transform import image_transform
from PIL import Image
from safetensors.numpy import save_file
from transformers import CLIPImageProcessor, SiglipImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SIZE = 16
BOX = {"height": SIZE, "width": SIZE}
PICTURES = ["tests/pictures/rgb-411-50x11.jpg", "tests/pictures/rgb-422-7x31.jpg", "tests/fixtures/processors/large.png"]
TRANSFORMERS = {
    "siglip": (SiglipImageProcessorPil, {"size": BOX, "resample": 3}),
    "siglip-bilinear": (SiglipImageProcessorPil, {"size": BOX, "resample": 2}),
    "metaclip2": (CLIPImageProcessorPil, {"size": {"shortest_edge": SIZE}, "crop_size": BOX}),
    "metaclip2-box": (CLIPImageProcessorPil, {"size": BOX, "crop_size": BOX, "resample": 2}),
}
HALF = [0.5, 0.5, 0.5]
OPEN_CLIP = {
    "open-clip-siglip": {"mean": HALF, "std": HALF, "interpolation": "bicubic", "resize_mode": "squash"},
    "open-clip-pe": {"mean": HALF, "std": HALF, "interpolation": "bilinear", "resize_mode": "squash"},
    "open-clip-clipa": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear", "resize_mode": "squash"},
    "open-clip-mobileclip": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear", "resize_mode": "shortest"},
}


def opened(path):
    return Image.open(ROOT / path).convert("RGB")


def difference():
    pictures = [opened(path) for folder in ["docs/src/images", "examples/pictos"] for path in sorted((ROOT / folder).rglob("*.png"))]
    for name, fast, slow, size, resample in [
        ("SigLIP, bicubic", SiglipImageProcessor, SiglipImageProcessorPil, {"height": 224, "width": 224}, 3),
        ("SigLIP, bilinear", SiglipImageProcessor, SiglipImageProcessorPil, {"height": 224, "width": 224}, 2),
        ("CLIP, bicubic", CLIPImageProcessor, CLIPImageProcessorPil, {"shortest_edge": 224}, 3),
    ]:
        counts = np.zeros(256, int)
        for picture in pictures:
            one, other = (np.asarray(kind(size=size, resample=resample)(picture, return_tensors="np")["pixel_values"]) for kind in (fast, slow))
            std = np.array(fast.image_std).reshape(1, 3, 1, 1)
            counts += np.bincount(np.rint(np.abs(one - other) * std * 255).astype(int).ravel(), minlength=256)
        print(f"{name}: {len(pictures)} pictures;", ", ".join(f"{n} samples by {by}" for by, n in enumerate(counts) if n))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, nargs="?")
    parser.add_argument("--difference", action="store_true")
    args = parser.parse_args()
    if args.difference:
        return difference()
    args.out.mkdir(exist_ok=True)
    expected = {}
    for kind, (processor, settings) in TRANSFORMERS.items():
        processor = processor(**settings)
        written = json.loads(processor.to_json_string())
        (args.out / f"{kind}.json").write_text(json.dumps(written, indent=1) + "\n")
        for path in PICTURES:
            pixels = np.asarray(processor(opened(path), return_tensors="np")["pixel_values"])[0]
            expected[f"{kind}/{path}"] = np.ascontiguousarray(pixels, np.float32)
    for kind, settings in OPEN_CLIP.items():
        (args.out / f"{kind}.json").write_text(json.dumps(settings) + "\n")
        transform = image_transform(SIZE, is_train=False, **settings)
        for path in PICTURES:
            expected[f"{kind}/{path}"] = transform(opened(path)).numpy()
    save_file(expected, args.out / "expected.safetensors")


if __name__ == "__main__":
    main()
