#!/usr/bin/env python3
"""How true confidence is where pictures are few: the table in docs/src/confidence.md.

    scripts/confidence.py [--tipi target/release/tipi] [--work DIR] [--methods tip-adapter,gda]

Draws 2, 5 and 20 of the classes of each bundled set of pictures, five times each. tipi learns 1, 2 and 3 pictures of each class by
`tipi eval`, with as many to validate on where the set has them: once judged by validation pictures alone (--judge-by validation),
once by pictures left out as well (the default). The pictures of the classes that were not drawn are foreign. Prints means over the
sets and draws; takes some minutes.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys

SETS = {"shifted": 4, "novel": 6}  # How many pictures of a class are for learning and validation.
CLASSES = [2, 5, 20]
SHOTS = [1, 2, 3]
DRAWS = 5
RULES = ["validation", "left-out"]
TEMPLATE = "a photo of a {}."
# Of log-loss, calibration error in percent, and the percentage that is right.
FORMS = [".2f", ".1f", ".1f"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tipi", default="target/release/tipi")
    parser.add_argument("--work", default="target/confidence")
    parser.add_argument("--model", default="weights/picto")
    parser.add_argument("--methods", default="zero-shot,tip-adapter,tip-x,gda,tip-adapter-f")
    args = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parent.parent
    work = pathlib.Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, train in SETS.items():
        folder = root / "examples/pictos" / name
        for count in CLASSES:
            for draw in range(1, DRAWS + 1):
                table, foreign = draw_classes(work, folder, train, count, draw)
                for rule in RULES:
                    rows += evaluate(args, work, table, foreign, rule, count, draw)
            print(f"{name}, {count} classes", file=sys.stderr)
    show(rows)


def draw_classes(work, folder, train, count, draw):
    """A CSV file of some classes, and a folder with the pictures of the others."""
    rng = random.Random(f"{folder.name} {count} {draw}")
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    # Enough to be tested with.
    drawn = sorted(rng.sample([c for c in classes if len(list(c.iterdir())) > train], count))
    name = f"{folder.name}-{count}-{draw}"
    lines = ["path,label,split"]
    for of in drawn:
        pictures = sorted(of.iterdir())
        rng.shuffle(pictures)
        for i, picture in enumerate(pictures):
            lines.append(f"{picture},{of.name.replace('_', ' ')},{'train' if i < train else 'test'}")
    table = work / f"{name}.csv"
    table.write_text("\n".join(lines) + "\n")
    foreign = work / f"{name}-foreign"
    foreign.mkdir(exist_ok=True)
    for of in classes:
        link = foreign / of.name
        if of not in drawn and not link.exists():
            link.symlink_to(of, target_is_directory=True)
    return table, foreign


def evaluate(args, work, table, foreign, rule, count, draw):
    out = work / f"{table.stem}-{rule}"
    command = [args.tipi, "eval", "--dataset", table, "--model", args.model, "--out", out, "--json", "--judge-by", rule]
    command += ["--features", work / "features", "--foreign", foreign, "--template", TEMPLATE, "--methods", args.methods]
    command += ["--shots", ",".join(map(str, SHOTS)), "--seeds", str(draw), "--train-views", "10"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    results = next(out.glob("*/results.jsonl"))
    rows = []
    for line in results.read_text().splitlines():
        row = dict(json.loads(line), rule=rule, count=count)
        name = f"{row['method']}-{row['shots']}shot-seed{row['seed']}.json"
        detail = json.loads((results.parent / "details" / name).read_text())
        row["bins"] = (detail["reliability_fitted"] or detail["reliability"])["bins"]
        rows.append(row)
    return rows


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def show(rows):
    def of(**wanted):
        return [row for row in rows if all(row[key] == value for key, value in wanted.items())]

    def loss(row):
        return row["log_loss_fitted"] if row["log_loss_fitted"] is not None else row["log_loss"]

    def ece(rows):
        # Of all draws together: with a handful of test pictures each, their own errors say little.
        bins = list(zip(*(row["bins"] for row in rows)))
        off = sum(abs(sum(b["right"] - b["confidence"] for b in group)) for group in bins)
        return 100 * off / max(1, sum(b["count"] for group in bins for b in group))

    def numbers(part):
        return [mean(map(loss, part)), ece(part), 100 * mean(row["accuracy"] for row in part)]

    def cells(pair):
        return " | ".join(f"{before:{form}} → {after:{form}}" for before, after, form in zip(*pair, FORMS))

    methods = list(dict.fromkeys(row["method"] for row in rows))
    print("| method | classes | shots | log-loss | ECE | right |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for method in methods:
        for count in CLASSES:
            for shots in SHOTS:
                pair = [numbers(of(method=method, count=count, shots=shots, rule=rule)) for rule in RULES]
                print(f"| {method} | {count} | {shots} | {cells(pair)} |")
    print("\nMeans over the methods\n\n| classes | shots | log-loss | ECE | right |\n| ---: | ---: | ---: | ---: | ---: |")
    for count, shots in [(count, shots) for count in CLASSES for shots in SHOTS] + [(None, None)]:
        wanted = {} if count is None else {"count": count, "shots": shots}
        grid = [wanted] if wanted else [{"count": count, "shots": shots} for count in CLASSES for shots in SHOTS]
        pair = [
            [mean(values) for values in zip(*(numbers(of(method=m, rule=rule, **cell)) for m in methods for cell in grid))]
            for rule in RULES
        ]
        print(f"| {count or 'all'} | {shots or 'all'} | {cells(pair)} |")
    print("\nSets of classes, left-out: asked for, held (where the evidence supports it), classes in a set, share supported\n")
    print("| classes | shots | 80 % | 90 % | 95 % |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for count in CLASSES:
        for shots in SHOTS:
            part = [row["coverage"] for row in of(count=count, shots=shots, rule="left-out") if row["coverage"]]
            cells = []
            for i in range(3):
                good = [c[i] for c in part if c[i]["supported"]]
                if good:
                    held, size = mean(c["held"] for c in good), mean(c["size"] for c in good)
                    cells.append(f"{100 * held:.1f} %, {size:.1f} ({len(good)} of {len(part)})")
                else:
                    cells.append("too few pictures")
            print(f"| {count} | {shots} | " + " | ".join(cells) + " |")
    print("\nForeign pictures, left-out: AUROC, and what is refused where 95 % of the known are to be kept\n")
    print("| classes | shots | probability | energy | distance | kept and refused by distance |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in CLASSES:
        for shots in SHOTS:
            part = [{f["by"]: f for f in row["foreign"]} for row in of(count=count, shots=shots, rule="left-out")]
            cells = [
                f"{100 * mean(f[by]['auroc'] for f in part if by in f):.1f}" for by in ["probability", "energy", "distance"]
            ]
            good = [f["distance"] for f in part if "distance" in f and f["distance"]["supported"]]
            if good:
                kept, refused = mean(f["kept"] for f in good), mean(f["refused"] for f in good)
                cells.append(f"{100 * kept:.1f} %, {100 * refused:.1f} %")
            else:
                cells.append("too few pictures")
            print(f"| {count} | {shots} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
