"""tipi beside other engines, on this machine, in one run: a table of ratios.

    python3 benches/peers/compare.py [--rounds N] [--classes 100,1000] [--peers burn,candle,torch,onnx]

Each round runs every engine once, one after the other, so that a machine whose speed varies is unfair to none; the best
round of each counts. Needs: cargo; for PyTorch and ONNX Runtime `pip install torch onnx onnxruntime`; for burn and candle
`cargo build --release --manifest-path benches/peers/rust/Cargo.toml` (done here, minutes the first time).
"""

import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.path.join(ROOT, "target", "peers")


def run(command, timeout=900):
    """The JSON lines that a command prints; what went wrong otherwise."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return [], f"no result in {timeout} s"
    except FileNotFoundError as error:
        return [], str(error)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        said = [line for line in done.stderr.splitlines() if line.strip() and "XDG" not in line]
        return [], (said[-1] if said else f"exit status {done.returncode}")
    return rows, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--classes", default="100")
    parser.add_argument("--peers", default="burn,candle,torch,onnx")
    args = parser.parse_args()
    peers = set(args.peers.split(","))

    subprocess.run(["cargo", "build", "--release", "--bench", "probe"], cwd=ROOT, check=True)
    if peers & {"burn", "candle"}:
        manifest = os.path.join(HERE, "rust", "Cargo.toml")
        command = ["cargo", "build", "--release", "--manifest-path", manifest, "--target-dir", TARGET]
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            sys.exit("the Rust peers do not build; leave them out with --peers torch,onnx")
    probe = ["cargo", "bench", "--quiet", "--bench", "probe", "--"]
    python = [sys.executable, os.path.join(HERE, "pytorch.py")]
    rust = [os.path.join(TARGET, "release", "tipi-peers")]
    cases = [("gemm", ["gemm"]), ("image", ["image"])]
    cases += [(f"pini {n}", ["pini", n]) for n in args.classes.split(",") if n]

    best, failed = {}, {}
    for _ in range(args.rounds):
        for case, words in cases:
            commands = [("tipi", probe + words)]
            if "torch" in peers:
                commands.append(("PyTorch", python + words))
            if "onnx" in peers and case == "image":
                commands.append(("ONNX Runtime", python + ["onnx-image"]))
            if case in ("gemm", "image"):
                # burn needs minutes for a batch on a software driver: one repetition must do.
                repeats = {"candle": "3", "burn": "3" if case == "gemm" else "1"}
                commands += [(name, rust + [name, case, repeats[name]]) for name in repeats if name in peers]
            for name, command in commands:
                if (name, case) in failed:
                    continue
                rows, error = run(command, 600 if name == "burn" else 1800)
                if error:
                    failed[name, case] = error
                for row in rows:
                    key = (row["case"], row["engine"])
                    if key not in best or row["seconds"] < best[key]["seconds"]:
                        best[key] = row

    titles = {"gemm": "GEMM 1600x3072x768, f32", "image": "ViT-B/32 image tower, 8 pictures"}
    units = {"gemm": (2 * 1600 * 3072 * 768 / 1e9, "GFLOP/s"), "image": (8, "images/s")}
    print("| case | engine | seconds | rate | tipi is | temporaries |\n| --- | --- | --- | --- | --- | --- |")
    for case, _ in cases:
        rows = sorted((r for (c, _), r in best.items() if c == case), key=lambda r: r["seconds"])
        own = next((r["seconds"] for r in rows if r["engine"] == "tipi"), None)
        for row in rows:
            title = titles.get(case, f"PiNI step, B/16's text tower, {case.split()[-1]} classes")
            amount, unit = units.get(case, (1, "steps/s"))
            ratio = f"{row['seconds'] / own:.2f} times as fast" if own and row["engine"] != "tipi" else ""
            memory = f"{row['megabytes']:,} MB" if "megabytes" in row else ""
            rate = f"{amount / row['seconds']:.3g} {unit}"
            print(f"| {title} | {row['engine']} | {row['seconds']:.3f} | {rate} | {ratio} | {memory} |")
    for (name, case), error in failed.items():
        print(f"\n{name}, {case}: {error}")


if __name__ == "__main__":
    main()
