#!/usr/bin/env python3
"""`tipi neighbours`, each of N features to all others, beside FAISS's exact search on the same file and cores.

    pip install faiss-cpu numpy
    cargo build --release
    python3 benches/peers/neighbours_faiss.py --rows 20000

Makes N features at random (seed 1, length 1), runs both, and prints time and peak memory of each, and in how many places of the
lists both name the same row. Where they do not, both rows' cosines are computed anew in float64: they must be equal within
rounding. Times are of whole programs; reading the file is in tipi's, and not in FAISS's.
"""
import argparse
import csv
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--tipi", default="target/release/tipi")
parser.add_argument("--rows", type=int, default=20_000)
parser.add_argument("--width", type=int, default=512)
parser.add_argument("--k", type=int, default=10)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--faiss", help=argparse.SUPPRESS)  # the file, in the process that runs FAISS alone
args = parser.parse_args()


def read(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        return np.frombuffer(file.read(), np.float32).reshape(header["features"]["shape"])


if args.faiss:
    import faiss

    faiss.omp_set_num_threads(args.threads)
    x = read(args.faiss)
    start = time.time()
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    _, found = index.search(x, args.k + 1)
    print(time.time() - start, file=sys.stderr)
    # Each is the nearest to itself; where another is as near, either may come first.
    others = np.array([[j for j in row if j != i][: args.k] for i, row in enumerate(found)])
    np.save(sys.stdout.buffer, others)
    sys.exit()


def run(command, out):
    """Seconds, and the most memory in MB that any child has taken so far."""
    start = time.time()
    with open(out, "wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, check=True)
    return time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, done.stderr


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "features.safetensors")
    x = np.random.default_rng(1).standard_normal((args.rows, args.width), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    header = json.dumps({"features": {"dtype": "F32", "shape": x.shape, "data_offsets": [0, x.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + x.tobytes())
    print(f"{args.rows} rows of {args.width}, {args.k} nearest of each, {args.threads} threads", flush=True)
    out = os.path.join(folder, "out")
    own = [sys.executable, __file__, "--faiss", path, "--k", str(args.k), "--threads", str(args.threads)]
    _, memory, said = run(own, out)
    print(f"FAISS: {float(said.split()[-1]):.1f} s, at most {memory:.0f} MB", flush=True)
    theirs = np.load(out)
    # The most of both so far: FAISS takes less.
    seconds, memory, _ = run([args.tipi, "neighbours", "--features", path, "--k", str(args.k), "--csv"], out)
    print(f"tipi: {seconds:.1f} s, at most {memory:.0f} MB")
    ours = np.empty_like(theirs)
    with open(out, newline="") as file:
        for row in csv.DictReader(file):
            ours[int(row["query"][1:]), int(row["rank"]) - 1] = int(row["neighbour"][1:])
    wide = x.astype(np.float64)
    rows, places = np.nonzero(ours != theirs)
    off = [abs(wide[i] @ (wide[ours[i, p]] - wide[theirs[i, p]])) for i, p in zip(rows, places)]
    print(f"the same row in {ours.size - len(off)} of {ours.size} places; cosines of the others differ by {max(off, default=0):.1e} at the most")
