"""Muon for a transformer's inner matrices, AdamW for the rest: on few cores the steps count, and Muon needs fewer of them.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): the momentum of a matrix is replaced by the nearest one whose
singular values are all about one, by five Newton-Schulz steps, so that no direction of it learns slower than another.
"""
from collections import defaultdict

import torch
from torch import nn

MOMENTUM = 0.95


def orthogonal(m: torch.Tensor) -> torch.Tensor:
    """Matrices [n, rows, columns], rows ≤ columns, with singular values of about one."""
    x = m / (m.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Queries', keys' and values' matrices lie in one tensor and are taken apart: `(tensor, parts)`."""

    def __init__(self, matrices: list[tuple[nn.Parameter, int]], rate: float, decay: float):
        self.parts = [parts for _, parts in matrices]
        super().__init__([p for p, _ in matrices], {"lr": rate, "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        alike = defaultdict(list)
        (group,) = self.param_groups
        for p, parts in zip(group["params"], self.parts):
            state = self.state[p]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].mul_(MOMENTUM).add_(p.grad)
            ahead = p.grad.add(state["momentum"], alpha=MOMENTUM)
            p.mul_(1 - group["lr"] * group["weight_decay"])
            for piece, to in zip(ahead.chunk(parts), p.chunk(parts)):
                flat = piece if piece.shape[0] <= piece.shape[1] else piece.T
                alike[flat.shape].append((flat, to, flat is piece))
        for together in alike.values():
            for update, (_, to, upright) in zip(orthogonal(torch.stack([flat for flat, _, _ in together])), together):
                # A taller matrix has the larger update, so that its outputs move as much as a square one's.
                taller = max(1.0, to.shape[0] / to.shape[1]) ** 0.5
                to.add_(update if upright else update.T, alpha=-group["lr"] * taller)
