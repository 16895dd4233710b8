#!/usr/bin/env python3
"""The same as speed.mjs, natively, by the package for Python: speed.py REPOSITORY

VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json takes Chromium's own driver for the processor, TIPI_LIMITS=webgpu a
browser's limits.
"""

import sys
import time
from pathlib import Path

import tipi

repository = Path(sys.argv[1])
pictures = repository / "examples/pictos/shifted"
classes = sorted(folder.name for folder in pictures.iterdir() if folder.is_dir())[:8]
files = [[path.read_bytes() for path in sorted((pictures / name).iterdir())[:8]] for name in classes]
everything = [one for of in files for one in of]


def timed(what, work):
    begun = time.perf_counter()
    result = work()
    print(f"{what}: {1000 * (time.perf_counter() - begun):.1f} ms")
    return result


model = timed("load", lambda: tipi.Model(str(repository / "weights/picto")))
timed("first answer", lambda: model.zero_shot(classes, "an icon of {}").predict(everything[:1]))
timed("first 64 pictures", lambda: model.encode_images(everything))
timed("64 pictures", lambda: model.encode_images(everything))
steps = []


def progress(now):
    if "epoch" in now.beside:
        steps.append((now.done, time.perf_counter()))


model.fit(
    {name: of[:4] for name, of in zip(classes, files)},
    "pini",
    templates="an icon of {}",
    settings={"epochs": 12},
    how={"augment": False, "key_views": 0, "judge_by": "validation"},
    progress=progress,
)
late = steps[len(steps) // 2 :]
print(f"a step of PiNI: {1000 * (late[-1][1] - late[0][1]) / (late[-1][0] - late[0][0]):.1f} ms")
