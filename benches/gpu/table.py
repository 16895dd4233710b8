#!/usr/bin/env python3
"""Makes of results.jsonl, as run.sh leaves it, the Markdown that benches/RESULTS.md keeps for a card.

    python3 benches/gpu/table.py RESULTS.jsonl... >>benches/RESULTS.md
"""

import json
import sys


def engine_order(row):
    """tipi first, then the others by name."""
    return (not row["engine"].startswith("tipi"), row["engine"])


def steps(rows):
    print("\n| step | status | passed | failed | seconds |\n| --- | --- | ---: | ---: | ---: |")
    for row in rows:
        print(f"| {row['step']} | {row['status']} | {row.get('passed', '')} | {row.get('failed', '')} | {row['seconds']} |")


def cases(rows):
    print("\n| case | engine | seconds | rate | of f32 peak | tipi is |\n| --- | --- | ---: | ---: | ---: | --- |")
    groups = {}
    for row in rows:
        groups.setdefault(row["case"], []).append(row)
    for name, group in groups.items():
        group.sort(key=engine_order)
        own = min((row["seconds"] for row in group if row["engine"].startswith("tipi")), default=None)
        for row in group:
            rate = f"{row['work'] / row['seconds']:,.4g} {row['unit']}/s" if "work" in row else ""
            share = f"{100 * row['of_f32_peak']:.1f} %" if "of_f32_peak" in row else ""
            beside = "" if own is None or row["engine"].startswith("tipi") else f"{row['seconds'] / own:.2f} times as fast"
            print(f"| {name} | {row['engine']} | {row['seconds']:.4g} | {rate} | {share} | {beside} |")
    for row in rows:
        if "idle" in row:
            print(
                f"\nIn {row['case']} the device worked {row['busy']:.3g} s and waited {row['idle']:.3g} s between {row['submissions']} "
                f"submissions, {1e3 * row['gap']:.3g} ms in the middle, {1e3 * row['longest gap']:.3g} ms at most."
            )


def kernels(measured):
    """Each kernel with the larger of its two shares: that which bounds it."""
    flops, copied = measured["peak_flops"], measured["peak_bytes"]
    print(f"\nIts own peaks: {flops / 1e9:,.1f} GFLOP/s in registers, {copied / 1e9:,.2f} GB/s copying a buffer of 64 MiB.")
    print("\n| kernel | ms | GFLOP/s | GB/s | of its roofline |\n| --- | ---: | ---: | ---: | ---: |")
    for row in measured["rows"]:
        seconds = row["seconds"]
        bound = max(row["flops"] / flops, row["bytes"] / copied)
        print(
            f"| {row['name']} | {1e3 * seconds:.4g} | {row['flops'] / seconds / 1e9:,.1f} "
            f"| {row['bytes'] / seconds / 1e9:,.2f} | {100 * bound / seconds:.1f} % |"
        )


def main():
    rows = []
    for path in sys.argv[1:] or ["/dev/stdin"]:
        with open(path, encoding="utf-8") as lines:
            rows += [json.loads(line) for line in lines if line.strip()]
    cards = {}
    for row in rows:
        cards.setdefault((row["card"], row["driver"]), []).append(row)
    for (card, driver), results in cards.items():
        of = {}
        for row in results:
            of.setdefault(row["result"], []).append(row)
        print(f"\n## {card}\n\nDriver: {driver}.", end="")
        for device in of.get("device", []):
            print(f" tipi at {device['commit']}, subgroups of {'–'.join(map(str, sorted(set(device['subgroup']))))}:", end=" ")
            print(f"{', '.join(device['uses'])}. Measured by `benches/gpu/run.sh`.")
        steps(of.get("step", []))
        if "case" in of:
            cases(of["case"])
        for bench in of.get("bench", []):
            kernels(bench["measured"])


main()
