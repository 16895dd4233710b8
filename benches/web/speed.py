#!/usr/bin/env python3
"""What speed.mjs measures of tipi, natively, by the package for Python: the same rows.

    speed.py --pictures FOLDER --model FOLDER --name NAME [--precision f16] [--count 64] [--shots 4] [--epochs 12]

--epochs 0 leaves PiNI out; else give at least 3. VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json takes
Chromium's own driver for the processor, TIPI_LIMITS=webgpu a browser's limits.
"""

import argparse
import re
import time
from pathlib import Path

import tipi

TEMPLATE = "an icon of {}"

parser = argparse.ArgumentParser()
for name in ("pictures", "model", "name"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--precision", default="f32")
for name, default in (("count", 64), ("shots", 4), ("epochs", 12)):
    parser.add_argument(f"--{name}", type=int, default=default)
given = parser.parse_args()

folders = sorted(folder for folder in Path(given.pictures).iterdir() if folder.is_dir())[:8]
classes = [folder.name for folder in folders]
each = max(given.shots, -(-given.count // len(classes)))
files = [[path.read_bytes() for path in sorted(folder.iterdir())[:each]] for folder in folders]
pictures = [one for of in files for one in of][: given.count]


def timed(work):
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def steady(work):
    """The best of three times, or of as many as fit into a minute."""
    times = []
    while len(times) < 3 and sum(times) < 60:
        times.append(timed(work)[0])
    return min(times)


load, model = timed(lambda: tipi.Model(given.model, precision=given.precision))
answer, _ = timed(lambda: model.zero_shot(classes, TEMPLATE).predict(pictures[:1]))
first, _ = timed(lambda: model.encode_images(pictures))
rate = len(pictures) / steady(lambda: model.encode_images(pictures))
cells = [f"{value:.3g}" for value in (load, answer, first, rate)]
# When each epoch, here of one step, was first seen to be done.
ends = {}


def progress(now):
    if epoch := re.search(r"epoch (\d+)", now.beside):
        ends.setdefault(int(epoch[1]), time.perf_counter())


if given.epochs:
    model.fit(
        {name: of[: given.shots] for name, of in zip(classes, files)},
        "pini",
        templates=TEMPLATE,
        settings={"epochs": given.epochs},
        how={"augment": False, "key_views": 0, "judge_by": "validation"},
        progress=progress,
    )
    # Without the first half, which compiles kernels.
    late = list(ends.items())[len(ends) // 2 :]
    cells.append(f"{(late[-1][1] - late[0][1]) / (late[-1][0] - late[0][0]):.3g}")
else:
    cells.append("")
print(f"| {' | '.join([given.name, f'tipi {given.precision}, natively on {model.device.name}', *cells])} |")
