#!/usr/bin/env python3
"""Draws a training's log as a picture: curve.py LOG OUT.svg

Loss over steps, and what share of the validation icons gets its name right among 1,645, plain and behind 16 junk words.
"""

import re
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 320, 52, 30, 52, 40


def read(log):
    losses = [(int(s), float(l)) for s, l in re.findall(r"^step (\d+) loss ([\d.]+)", log, re.M)]
    right = [
        (int(s), float(plain), float(junk))
        for s, plain, junk in re.findall(r"^step (\d+) validation .*'plain': ([\d.]+), 'junk': ([\d.]+)", log, re.M)
    ]
    return losses, right


def main():
    losses, right = read(Path(sys.argv[1]).read_text())
    last = max(step for step, *_ in losses + right)
    x = lambda step: LEFT + (WIDTH - LEFT - RIGHT) * step / last
    y = lambda share: TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)
    most = max(loss for _, loss in losses)
    line = lambda points, of: (
        f'<polyline class="{of}" points="' + " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in points) + '"/>'
    )
    text = lambda at, words, of="middle", kind="": (
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{of}" class="{kind}">{words}</text>'
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        "<style>polyline{fill:none;stroke-width:2}.loss{stroke:#8a8f98}.plain{stroke:#0b5fa5}.junk{stroke:#c2571a;stroke-dasharray:5 4}"
        ".axis{stroke:#c8c8c4;stroke-width:1}text{fill:#444}text.plain{fill:#0b5fa5;stroke:none}text.junk{fill:#c2571a;stroke:none}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(share):.1f}" y2="{y(share):.1f}"/>')
        parts.append(text((LEFT - 6, y(share) + 4), f"{most * share:.1f}", "end"))
        parts.append(text((WIDTH - RIGHT + 6, y(share) + 4), f"{50 * share:.0f} %", "start", "plain"))
    for step in range(0, last + 1, 500):
        parts.append(text((x(step), HEIGHT - BOTTOM + 16), f"{step:,}"))
    parts += [
        text((LEFT, 16), "loss", "start"),
        text((WIDTH - RIGHT, 16), "right of 1,645 names (dashed: behind junk words)", "end", "plain"),
        text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6), "step"),
        line([(s, l / most) for s, l in losses], "loss"),
        line([(s, p / 50) for s, p, _ in right], "plain"),
        line([(s, j / 50) for s, _, j in right], "junk"),
        "</svg>",
    ]
    Path(sys.argv[2]).write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
