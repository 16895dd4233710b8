"""Times of PyTorch and ONNX Runtime on the cases that compare.py puts side by side with tipi's.

One JSON object a line: {"engine", "case", "seconds"}, the best of several runs. f32 on all cores of the CPU, or with
TIPI_TORCH_DEVICE=cuda and TIPI_TORCH_DTYPE=float16 what these say; TIPI_TORCH_COMPILE=1 compiles towers before.

    python3 benches/peers/pytorch.py gemm|image|pini CLASSES|pixels [BATCH]|onnx-image|products [SIDE]|towers [BATCH,BATCH…] [NAME…]|cache [KEYS]|dino [PICTURES]
"""

import json
import os
import sys
import time

import torch
from torch import nn

DEVICE = os.environ.get("TIPI_TORCH_DEVICE", "cpu")
DTYPE = getattr(torch, os.environ.get("TIPI_TORCH_DTYPE", "float32"))
# What was run on what, by one name.
ENGINE = "PyTorch" + (f", {str(DTYPE).removeprefix('torch.')}" if DTYPE != torch.float32 else "")
COMPILE = os.environ.get("TIPI_TORCH_COMPILE") == "1"
ENGINE += ", compiled" if COMPILE else ""
GEMM = (1600, 3072, 768)
# As in benches/support/mod.rs.
PRODUCTS = [(3200, 3072, 768), (3200, 768, 3072), (50, 3072, 768), (12608, 2304, 768), (2056, 4096, 1024), (5000, 2048, 512)]
TOWERS = {"ViT-B-32": {}, "ViT-B-16": {"patch": 16}, "ViT-L-14": {"width": 1024, "layers": 24, "patch": 14, "out": 768}}
BATCH = 8


def report(engine, case, seconds, **more):
    print(json.dumps({"engine": engine, "case": case, "seconds": seconds, **more}), flush=True)


def best(repeats, run):
    def once():
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    once()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        once()
        times.append(time.perf_counter() - start)
    return min(times)


class Block(nn.Module):
    """CLIP's residual block as its authors wrote it: nn.MultiheadAttention and an MLP with QuickGELU."""

    def __init__(self, width, heads, mask=None):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mask = mask

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.mask)[0]
        y = self.up(self.ln_2(x))
        return x + self.down(y * torch.sigmoid(1.702 * y))


class ImageTower(nn.Module):
    def __init__(self, width=768, layers=12, patch=32, size=224, out=512):
        super().__init__()
        self.conv = nn.Conv2d(3, width, patch, patch, bias=False)
        self.cls = nn.Parameter(torch.randn(width) * width**-0.5)
        self.pos = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width) * width**-0.5)
        self.pre, self.post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.Sequential(*[Block(width, width // 64) for _ in range(layers)])
        self.proj = nn.Parameter(torch.randn(width, out) * width**-0.5)

    def forward(self, pixels):
        x = self.conv(pixels).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.cls.expand(x.shape[0], 1, -1), x], 1) + self.pos
        x = self.blocks(self.pre(x).permute(1, 0, 2)).permute(1, 0, 2)
        return self.post(x[:, 0]) @ self.proj


class TextTower(nn.Module):
    def __init__(self, width=512, layers=12, context=77, out=512):
        super().__init__()
        mask = torch.full((context, context), float("-inf")).triu_(1)
        self.pos = nn.Parameter(torch.randn(context, width) * 0.01)
        self.blocks = nn.Sequential(*[Block(width, width // 64, mask) for _ in range(layers)])
        self.ln_final = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, out) * width**-0.5)

    def forward(self, x, ends):
        x = self.blocks((x + self.pos).permute(1, 0, 2)).permute(1, 0, 2)
        return self.ln_final(x)[torch.arange(x.shape[0]), ends] @ self.proj


def gemm():
    m, n, k = GEMM
    a, b = torch.randn(m, k), torch.randn(n, k)
    with torch.no_grad():
        report("PyTorch", "gemm", best(5, lambda: a @ b.T))


def products(side):
    with torch.no_grad():
        for m, n, k in [*PRODUCTS, (side, side, side)]:
            m = min(m, side)
            a, b = torch.randn(m, k), torch.randn(n, k)
            seconds = best(5, lambda a=a, b=b: a @ b.T)
            report(ENGINE, f"product {m}×{n}×{k}", seconds, work=2 * m * n * k / 1e9, unit="GFLOP")


def towers(batches, names):
    with torch.no_grad():
        for name, size in TOWERS.items():
            if names and name not in names:
                continue
            tower = ImageTower(**size).eval()
            if COMPILE:
                tower = torch.compile(tower)
            for batch in batches:
                pixels = torch.randn(batch, 3, 224, 224)
                seconds = best(3, lambda tower=tower, pixels=pixels: tower(pixels))
                report(ENGINE, f"{name}, {batch} pictures", seconds, work=batch, unit="images")


def cache(keys):
    """Tip-Adapter's cache term as its authors wrote it."""
    queries, width, classes = 256, 512, -(-keys // 10)
    f, g = torch.randn(queries, width), torch.randn(keys, width)
    values = nn.functional.one_hot(torch.arange(keys) // 10, classes).to(DTYPE)
    with torch.no_grad():
        f, g = nn.functional.normalize(f), nn.functional.normalize(g)
        seconds = best(3, lambda: (5.5 * (f @ g.T) - 5.5).exp() @ values)
    report(ENGINE, f"cache term, {keys} keys, 1 β", seconds)


def image():
    tower = ImageTower().eval()
    pixels = torch.randn(BATCH, 3, 224, 224)
    with torch.no_grad():
        report("PyTorch", "image", best(3, lambda: tower(pixels)))


def onnx_image():
    import tempfile

    import onnxruntime

    tower = ImageTower().eval()
    pixels = torch.randn(BATCH, 3, 224, 224)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tower.onnx")
        torch.onnx.export(tower, (pixels,), path, input_names=["pixels"], dynamo=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        feed = {"pixels": pixels.numpy()}
        report("ONNX Runtime", "image", best(3, lambda: session.run(None, feed)))


def pini(classes):
    """A training step as PiNI's authors wrote it: every class's prompt of 77 tokens through the frozen text tower, forward
    and the gradient by its input; the noise on the tokens before the class name is shared by all classes."""
    width, noisy, draws = 512, 20, 32
    tower = TextTower().requires_grad_(False)
    tokens = torch.randn(classes, 77, width) * 0.02
    ends = torch.tensor([1 + noisy + 1 + c % 4 + 1 for c in range(classes)])
    mean = nn.Parameter(torch.randn(noisy, width) * 0.02)
    spread = nn.Parameter(torch.randn(noisy, width) * 0.02)
    layers = nn.ModuleList([nn.Linear(width, width) for _ in range(5)])
    query, key, value, to_spread, to_mean = layers
    optimizer = torch.optim.SGD([mean, spread, *layers.parameters()], lr=1e-3, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(draws, width)
    labels = torch.arange(draws) % classes

    def step():
        noise = mean + spread * torch.randn(noisy, width)
        x = torch.cat([tokens[:, :1], tokens[:, 1 : 1 + noisy] + noise, tokens[:, 1 + noisy :]], 1)
        t = tower(x, ends)
        z = torch.softmax(query(images) @ key(t).T, -1) @ value(t)
        v = images + to_spread(z).abs() * torch.randn_like(images) + to_mean(z)
        logits = 100 * nn.functional.normalize(v) @ nn.functional.normalize(t).T
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    import resource

    # Resident memory less what the weights and the interpreter take: activations, roughly.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = best(1 if classes > 200 else 2, step)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    report(ENGINE, f"pini {classes}", seconds, megabytes=round(grown), work=1, unit="steps")


class Residual(nn.Module):
    def __init__(self, into, out):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if into != out:
            self.shortcut = nn.Sequential(nn.Conv2d(into, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class NoiseNet(nn.Module):
    """The network that makes noise of pixels: means and spreads, each plane of an RMS of 0.1."""

    def __init__(self, narrow=64, wide=128):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, narrow, 3, padding=1, bias=False), nn.BatchNorm2d(narrow)
        self.layer1 = nn.Sequential(Residual(narrow, narrow), Residual(narrow, narrow))
        self.layer2, self.layer3 = Residual(narrow, wide), Residual(wide, narrow)
        self.conv_variance = nn.Conv2d(narrow, 3, 3, padding=1, bias=False)
        self.conv_mean = nn.Conv2d(narrow, 3, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        scaled = lambda h: 0.1 * h / h.square().mean((2, 3), keepdim=True).sqrt()
        return scaled(self.conv_mean(x)), scaled(self.conv_variance(x)).abs()


def pixels(batch):
    """A training step of PiNI's noise on pixels: the network, the frozen image tower, and the gradient through both."""
    import resource

    tower, net = ImageTower(patch=16).requires_grad_(False), NoiseNet()
    texts = nn.functional.normalize(torch.randn(100, 512))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    x, labels = torch.randn(batch, 3, 224, 224), torch.arange(batch) % 100

    def step():
        mean, spread = net(x)
        v = tower(x + mean + spread * torch.randn_like(x))
        loss = nn.functional.cross_entropy(100 * nn.functional.normalize(v) @ texts.T, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = best(1, step)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    report(ENGINE, f"pixels {batch}", seconds, megabytes=round(grown), work=1, unit="steps")


class Adapted(nn.Module):
    """ViT-B/16 with a bottleneck beside each MLP, positions interpolated for each crop, and the wide head."""

    def __init__(self, tower, head):
        super().__init__()
        self.tower, self.head, width = tower, head, tower.cls.shape[0]
        one = lambda: nn.ModuleList([nn.Linear(width, 64), nn.Linear(64, width)])
        self.branches = nn.ModuleList([one() for _ in tower.blocks])

    def forward(self, pixels):
        t = self.tower
        x = t.conv(pixels)
        grid = x.shape[-1]
        x = x.flatten(2).permute(0, 2, 1)
        table = t.pos[1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
        if grid != 14:
            scale = (grid + 0.1) / 14
            table = nn.functional.interpolate(table, scale_factor=(scale, scale), mode="bicubic")
        table = table.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)
        x = torch.cat([t.cls.expand(x.shape[0], 1, -1) + t.pos[0], x + table], 1)
        x = t.pre(x).permute(1, 0, 2)
        for block, (down, up) in zip(t.blocks, self.branches, strict=True):
            y = block.ln_1(x)
            x = x + block.attn(y, y, y, need_weights=False)[0]
            y = block.up(block.ln_2(x))
            x = x + block.down(y * torch.sigmoid(1.702 * y)) + 0.1 * up(torch.relu(down(x)))
        return self.head(t.post(x[0]) @ t.proj)


def dino(pictures):
    """A step as the authors run it: all crops of one size at once, each through the whole tower, student and teacher apart."""

    class Unit(nn.Module):
        def forward(self, x):
            return nn.functional.normalize(x, dim=-1)

    tower = ImageTower(patch=16)
    sizes = [512, 2048, 2048, 256]
    layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
    wide = nn.Linear(256, 65536, bias=False)
    head = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2], Unit(), wide)
    for module in [tower, head]:
        module.requires_grad_(False)
    student, teacher = Adapted(tower, head), Adapted(tower, head)
    trained = [p for branch in student.branches for p in branch.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    crops = [torch.randn(2 * pictures, 3, 224, 224), torch.randn(10 * pictures, 3, 96, 96)]
    centre = torch.zeros(65536)

    def step():
        nonlocal centre
        with torch.no_grad():
            said = teacher(crops[0])
            wanted = torch.softmax((said - centre) / 0.04, -1).chunk(2)
        answers = torch.log_softmax(torch.cat([student(x) for x in crops]) / 0.1, -1).chunk(12)
        pairs = [(q, v) for q in range(2) for v in range(12) if q != v]
        loss = sum(-(wanted[q] * answers[v]).sum(-1).mean() for q, v in pairs) / len(pairs)
        optimizer.zero_grad()
        loss.backward()
        for p in trained:
            nn.utils.clip_grad_norm_([p], 0.3)
        optimizer.step()
        with torch.no_grad():
            for p, t in zip(trained, [p for b in teacher.branches for p in b.parameters()], strict=True):
                t.mul_(0.9998).add_(p, alpha=0.0002)
            centre = 0.9 * centre + 0.1 * said.mean(0)

    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = best(2, step)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    report(ENGINE, f"dino {pictures}", seconds, megabytes=round(grown), work=1, unit="steps")


def main():
    case = sys.argv[1]
    number = sys.argv[2] if len(sys.argv) > 2 else None
    if case == "pini":
        pini(int(number))
    elif case == "pixels":
        pixels(int(number or BATCH))
    elif case == "products":
        products(int(number or 4096))
    elif case == "towers":
        towers([int(batch) for batch in (number or "1,8,64").split(",")], sys.argv[3:])
    elif case == "cache":
        cache(int(number or 16_000))
    elif case == "dino":
        dino(int(number or 2))
    else:
        {"gemm": gemm, "image": image, "onnx-image": onnx_image}[case]()


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_default_device(DEVICE)
    torch.set_default_dtype(DTYPE)
    main()
