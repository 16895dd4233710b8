#!/usr/bin/env python3
"""The search over α, β and γ as a plain loop in PyTorch, beside `tipi search` on the same files and cores.

    pip install torch numpy safetensors
    cargo build --release
    python3 benches/peers/search_torch.py

Makes a cache of C classes with K shots, validation rows and a classifier at random, runs the whole grid with
`tipi search --method tip-x --grid paper` (200×20×50 points), times points of the loop that the authors of Tip-X run,
spread over the grid, and scales those up. Prints both, their ratio, and whether the points that the loop did visit
have the counts that tipi's search finds there.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
from safetensors.numpy import save_file

parser = argparse.ArgumentParser()
parser.add_argument("--tipi", default="target/release/tipi")
parser.add_argument("--classes", type=int, default=100)
parser.add_argument("--shots", type=int, default=16)
parser.add_argument("--width", type=int, default=512)
parser.add_argument("--rows", type=int, default=1000)
parser.add_argument("--points", type=int, default=200, help="points of the loop to time")
parser.add_argument("--threads", type=int, default=os.cpu_count())
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.set_grad_enabled(False)

rng = np.random.default_rng(0)
C, K, D, N = args.classes, args.shots, args.width, args.rows


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


# Classes are directions; pictures lie around them, text near them.
centres = rng.normal(size=(C, D))
W = unit(centres + 4.0 * rng.normal(size=(C, D)))
cache_labels = np.repeat(np.arange(C), K)
G = unit(centres[cache_labels] + 4.5 * rng.normal(size=(C * K, D)))
labels = rng.integers(0, C, N)
F = unit(centres[labels] + 4.5 * rng.normal(size=(N, D)))
folder = tempfile.mkdtemp()
paths = {name: os.path.join(folder, name + ".safetensors") for name in ("cache", "classifier", "val")}
save_file({"features": G, "labels": cache_labels.astype(np.int64)}, paths["cache"])
save_file({"weights": W}, paths["classifier"])
save_file({"features": F, "labels": labels.astype(np.int64)}, paths["val"])

command = [args.tipi, "search", "--method", "tip-x", "--grid", "paper", "--json"]
for name, path in paths.items():
    command += ["--" + name, path]
runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(3)]
ours = min(run["seconds"] for run in runs)
best = runs[0]

f, g, w = torch.tensor(F), torch.tensor(G), torch.tensor(W)
y, onehot = torch.tensor(labels), torch.nn.functional.one_hot(torch.tensor(cache_labels), C).float()
logits = 100.0 * f @ w.T
affinity = f @ g.T
p, q = torch.softmax(f @ w.T / 0.5, 1), torch.softmax(g @ w.T / 0.5, 1)
kl = (p * p.log()).sum(1, keepdim=True) - p @ q.log().T


def rescale(x, target):
    return (x - x.min()) / (x.max() - x.min()) * (target.max() - target.min()) + target.min()


def point(alpha, beta, gamma):
    """One turn of the authors' loop."""
    cache_logits = (-1 * (beta - beta * affinity)).exp() @ onehot
    kl_logits = -rescale(kl, affinity) @ onehot
    total = logits + cache_logits * alpha + kl_logits * gamma
    return (total.argmax(1) == y).sum().item()


alphas, betas, gammas = np.linspace(0, 20, 200), np.linspace(0, 20, 20), np.linspace(0, 30, 50)
grid = [(a, b, c) for a in alphas for b in betas for c in gammas]
spots = grid[:: max(1, len(grid) // args.points)][: args.points]
for spot in spots[:20]:
    point(*spot)
start = time.perf_counter()
for spot in spots:
    point(*spot)
each = (time.perf_counter() - start) / len(spots)
loop = each * len(grid)
found = tuple(best["best"][k] for k in ("alpha", "beta", "gamma"))
there = point(*found) / N
print(f"{C} classes, {K} shots, width {D}, {N} rows, {len(grid)} points, {args.threads} threads")
print(f"tipi search: {ours:.2f} s (best of 3: {', '.join('%.2f' % run['seconds'] for run in runs)})")
print(f"PyTorch loop: {1e3 * each:.2f} ms a point over {len(spots)} points, {loop:.0f} s for the grid")
print(f"ratio {loop / ours:.0f}")
print(f"tipi's best point {found}: {best['val_accuracy']:.4f} there; the loop's count there gives {there:.4f}")
