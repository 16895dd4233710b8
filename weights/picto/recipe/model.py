"""The two towers of a CLIP, in the arithmetic of transformers' CLIPModel with quick_gelu, written for speed on few cores."""
import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    """Sizes of a model; what a larger GPU run changes."""
    vocab: int = 4096
    context: int = 40
    image: int = 64
    patch: int = 8
    vision_width: int = 128
    vision_blocks: int = 6
    vision_heads: int = 2
    text_width: int = 192
    text_blocks: int = 4
    text_heads: int = 3
    joint: int = 192

    def dict(self) -> dict:
        return asdict(self)


class Block(nn.Module):
    """A transformer block, layer norms first, queries, keys and values in one matrix."""

    def __init__(self, width: int, heads: int, depth: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        # CLIP's own initialisation: what is added to the stream shrinks with the depth.
        for layer, std in ((self.qkv, width ** -0.5), (self.out, width ** -0.5 * (2 * depth) ** -0.5), (self.up, (2 * width) ** -0.5),
                           (self.down, width ** -0.5 * (2 * depth) ** -0.5)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor, causal: bool) -> torch.Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.out(a.transpose(1, 2).reshape(b, t, d))
        # quick_gelu(h) = silu(1.702 h) / 1.702, whose factors cost nothing in the matrices.
        h = F.silu(F.linear(self.norm2(x), 1.702 * self.up.weight, 1.702 * self.up.bias))
        return x + F.linear(h, self.down.weight / 1.702, self.down.bias)


class Clip(nn.Module):
    """Both towers and the scale of the logits."""

    def __init__(self, shape: Shape):
        super().__init__()
        s = self.shape = shape
        self.patches = nn.Conv2d(3, s.vision_width, s.patch, s.patch, bias=False)
        self.cls = nn.Parameter(torch.randn(s.vision_width) * s.vision_width ** -0.5)
        self.where = nn.Parameter(torch.randn((s.image // s.patch) ** 2 + 1, s.vision_width) * s.vision_width ** -0.5)
        self.pre, self.post = nn.LayerNorm(s.vision_width), nn.LayerNorm(s.vision_width)
        self.vision = nn.ModuleList(Block(s.vision_width, s.vision_heads, s.vision_blocks) for _ in range(s.vision_blocks))
        self.vision_out = nn.Linear(s.vision_width, s.joint, bias=False)
        self.tokens = nn.Embedding(s.vocab, s.text_width)
        self.order = nn.Parameter(torch.randn(s.context, s.text_width) * 0.01)
        self.text = nn.ModuleList(Block(s.text_width, s.text_heads, s.text_blocks) for _ in range(s.text_blocks))
        self.final = nn.LayerNorm(s.text_width)
        self.text_out = nn.Linear(s.text_width, s.joint, bias=False)
        self.scale = nn.Parameter(torch.tensor(math.log(14.0)))
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.vision_out.weight, std=s.vision_width ** -0.5)
        nn.init.normal_(self.text_out.weight, std=s.text_width ** -0.5)

    def encode_image(self, x: torch.Tensor, keep: float = 1.0) -> torch.Tensor:
        """Features of normalised pictures [B, 3, H, W], not of length one.

        In training a share of the patches may be left out, which makes a step cheaper by as much. Those on which something is
        drawn are kept with preference; the cool-down sees whole pictures.
        """
        drawn = None
        if keep < 1.0:
            s = self.shape.patch
            drawn = x.mean(1).unfold(1, s, s).unfold(2, s, s).flatten(1, 2).flatten(2).std(2) > 0.05
        x = self.patches(x).flatten(2).transpose(1, 2) + self.where[1:]
        if drawn is not None:
            score = torch.rand(drawn.shape, device=x.device) + 0.5 * drawn
            chosen = score.topk(int(keep * x.shape[1]), dim=1).indices
            x = x.gather(1, chosen.unsqueeze(2).expand(-1, -1, x.shape[2]))
        x = self.pre(torch.cat([(self.cls + self.where[0]).expand(x.shape[0], 1, -1), x], 1))
        for block in self.vision:
            x = block(x, False)
        return self.vision_out(self.post(x[:, 0]))

    def encode_text(self, ids: torch.Tensor, end: torch.Tensor, noise: torch.Tensor | None = None,
                    shift: torch.Tensor | None = None) -> torch.Tensor:
        """Features of token rows [B, T] whose end tokens are at `end`.

        `noise` [B or 1, n, width] goes in after the start token; `shift` [B, T, width] is added to the tokens.
        """
        x = self.tokens(ids)
        if shift is not None:
            x = x + shift
        if noise is not None:
            x = torch.cat([x[:, :1], noise.expand(len(ids), -1, -1), x[:, 1:]], 1)
            end = end + noise.shape[1]
        x = x + self.order[:x.shape[1]]
        for block in self.text:
            x = block(x, True)
        return self.text_out(self.final(x[torch.arange(len(x), device=x.device), end]))

    def logit_scale(self) -> torch.Tensor:
        return self.scale.exp().clamp(max=100.0)
