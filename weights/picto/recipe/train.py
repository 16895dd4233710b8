"""Trains the model: warm-up and a constant rate for as long as there is time, then a short cool-down from any state.

    python train.py DIR                        starts or goes on; stop it at any moment with SIGTERM
    python train.py DIR --cooldown 3000        from the last state to rate zero; the state itself stays, to go on from later
    python train.py DIR --from ../             starts from an exported model in place of random numbers

`state.pt` is replaced every few minutes, as one; `cool.pt` is the cool-down's own. Nothing here reads the held-out sets.
"""
import argparse
import math
import os
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from data import Data, augment, plain
from export import read
from model import Clip, Shape
from muon import Muon

SAVE_EVERY = 300.0
GROUPS = 6
stop = False


def asked_to_stop(*_) -> None:
    global stop
    stop = True


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir", type=Path)
    p.add_argument("--name", default="", help="in front of the names of states and of the log")
    p.add_argument("--steps", type=int, default=10 ** 9, help="stop at this step of the constant rate")
    p.add_argument("--minutes", type=float, default=1e9, help="stop once trained for this long, all runs together")
    p.add_argument("--cooldown", type=int, default=0, help="go from the last state to rate zero in so many steps")
    p.add_argument("--batch", type=int, default=384)
    p.add_argument("--from", dest="model", type=Path, help="a model folder to start from")
    p.add_argument("--rate", type=float, default=1e-3, help="AdamW's: embeddings, norms, biases and what leads into and out of a tower")
    p.add_argument("--decay", type=float, default=0.1, help="AdamW's")
    p.add_argument("--muon-rate", type=float, default=0.02, help="that of the blocks' matrices")
    p.add_argument("--muon-decay", type=float, default=0.02)
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--keep", type=float, default=0.4, help="share of the patches that training sees; the cool-down sees all")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--validate-every", type=int, default=1000)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for field, default in Shape().dict().items():
        if field not in ("vocab", "context", "image"):
            p.add_argument(f"--{field.replace('_', '-')}", type=int, default=default)
    return p.parse_args()


def save(path: Path, what: dict) -> None:
    """Writes a state so that a half-written one is never taken for whole."""
    part = path.with_suffix(".part")
    torch.save(what, part)
    os.replace(part, path)


def share(step: int, a: argparse.Namespace, cooled: int) -> float:
    """Of the full rate: warm-up, then constant; in the cool-down 1 − √progress."""
    base = min(1.0, (step + 1) / a.warmup)
    return base * (1.0 - math.sqrt(cooled / a.cooldown)) if a.cooldown else base


def optimizers(net: Clip, a: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for all else."""
    named = dict(net.named_parameters())
    inner = {n: 3 if ".qkv." in n else 1 for n, p in named.items() if n.startswith(("vision.", "text.")) and p.dim() == 2}
    outer = ("patches.weight", "vision_out.weight", "text_out.weight")
    light = [p for n, p in named.items() if n not in inner and n not in outer]
    return [Muon([(named[n], parts) for n, parts in inner.items()], a.muon_rate, a.muon_decay),
            torch.optim.AdamW([{"params": [named[n] for n in outer], "weight_decay": a.decay}, {"params": light, "weight_decay": 0.0}], lr=a.rate, betas=(0.9, 0.98),
                              eps=1e-6, fused=True)]


def text_batch(data: Data, indices, net: Clip, g: torch.Generator, device: str) -> torch.Tensor:
    """Text features of a batch: plain, behind junk words, with Gaussian tokens put in, or junk words made noisy.

    Learned prompts put vectors in front of the text that no word has; a text tower that never met such a thing loses the
    text's meaning behind them.
    """
    kind = data.random.random()
    context, width = net.shape.context, net.shape.text_width
    deviation = float(net.tokens.weight.detach().std())
    junk = 18 if 0.6 <= kind < 0.75 or kind >= 0.9 else 0
    texts, counts = data.texts(indices, junk)
    noise = shift = None
    room = context
    if 0.75 <= kind < 0.9:
        n = data.random.randint(4, 16)
        room = context - n
        rows = len(indices) if data.random.random() < 0.5 else 1
        noise = torch.randn(rows, n, width, generator=g) * deviation * data.random.uniform(0.5, 1.5)
    ids, end = data.encode(texts, room)
    if kind >= 0.9:
        # As PiNI starts: a spread and a mean on the embeddings of the words in front, one draw for all texts.
        shift = torch.randn(1, ids.shape[1], width, generator=g) * deviation * data.random.uniform(0.3, 1.5)
        reach = torch.tensor(counts)[:, None] + data.random.randint(0, 3)
        place = torch.arange(ids.shape[1])[None]
        shift = shift * ((place >= 1) & (place <= torch.minimum(reach, end[:, None] - 1))).unsqueeze(2)
        shift = shift.to(device)
    if noise is not None:
        noise = noise.to(device).expand(len(ids), -1, -1)
    # In groups of like length: half of a padded batch would be padding.
    order = end.argsort()
    features = []
    for rows in order.chunk(GROUPS):
        long = int(end[rows].max()) + 1
        features.append(net.encode_text(ids[rows, :long].to(device), end[rows].to(device), None if noise is None else noise[rows],
                                        None if shift is None else shift[rows, :long]))
    return torch.cat(features)[order.argsort()]


def loss_of(pictures: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, concept: torch.Tensor) -> torch.Tensor:
    """Both ways' cross-entropy; all pairs of one concept are right, in equal shares."""
    logits = scale * F.normalize(pictures.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T
    same = (concept[:, None] == concept[None]).float()
    same = same / same.sum(1, keepdim=True)
    return -((same * logits.log_softmax(1)).sum(1).mean() + (same * logits.log_softmax(0)).sum(0).mean()) / 2


@torch.no_grad()
def validate(data: Data, net: Clip, device: str) -> dict[str, float]:
    """Right names of validation pictures of known concepts among all names of validation pictures, in per cent."""
    net.eval()
    valid = data.valid[:3000]
    names = sorted({data.entries[i]["concept"] for i in valid})
    at = {n: k for k, n in enumerate(names)}
    right = torch.tensor([at[data.entries[i]["concept"]] for i in valid])
    pictures = F.normalize(torch.cat([net.encode_image(plain(data.pixels(valid[i:i + 500])).to(device)).float().cpu()
                                      for i in range(0, len(valid), 500)]), dim=-1)
    out = {"classes": float(len(names))}
    for key, template in (("plain", "an icon of {}"), ("junk", "x " * 16 + "an icon of {}.")):
        rows = []
        for i in range(0, len(names), 500):
            ids, end = data.encode([template.format(n) for n in names[i:i + 500]], net.shape.context)
            rows.append(net.encode_text(ids.to(device), end.to(device)).float().cpu())
        guess = (pictures @ F.normalize(torch.cat(rows), dim=-1).T).argmax(1)
        out[key] = round(100 * float((guess == right).float().mean()), 2)
    net.train()
    return out


def main() -> None:
    a = parse()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, asked_to_stop)
    state_path, cool_path = a.dir / f"{a.name}state.pt", a.dir / f"{a.name}cool.pt"
    data = Data(a.dir, a.seed)
    shape = Shape(vocab=data.tokenizer.get_vocab_size(), **{f: getattr(a, f) for f in Shape().dict() if f not in ("vocab", "context", "image")})
    have = torch.load(state_path, map_location="cpu", weights_only=False) if state_path.exists() else None
    start = have["step"] if have else 0
    if a.cooldown and cool_path.exists():
        # A cool-down that was cut off goes on, one of an earlier state does not.
        cool = torch.load(cool_path, map_location="cpu", weights_only=False)
        have = cool if cool["start"] == start else have
    if a.cooldown and have is None:
        raise SystemExit("nothing to cool down: no state")
    if have:
        shape = Shape(**have["shape"])
    net = Clip(shape).to(a.device)
    opts = optimizers(net, a)
    full = [[group["lr"] for group in o.param_groups] for o in opts]
    g = torch.Generator().manual_seed(a.seed)
    step = cooled = 0
    seconds = worked = 0.0
    if have:
        net.load_state_dict(have["model"])
        for o, saved_state in zip(opts, have["optimizers"]):
            o.load_state_dict(saved_state)
        data.set_rng_state(have["data"])
        g.set_state(have["generator"])
        step, cooled, seconds, worked = have["step"], have["cooled"], have["seconds"], have["worked"]
    elif a.model:
        net.load_state_dict(read(a.model, shape))
    half = a.device == "cuda"
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {shape.dict()}, {len(data.train)} icons, batch {a.batch}, "
          f"from step {step}", flush=True)

    def state() -> dict:
        return {"model": net.state_dict(), "optimizers": [o.state_dict() for o in opts], "data": data.rng_state(), "generator": g.get_state(),
                "step": step, "cooled": cooled, "start": start, "seconds": seconds, "worked": worked, "shape": shape.dict()}

    began = saved = said = time.time()
    before, worked_before, worked_began, total, count = seconds, worked, time.process_time(), 0.0, 0
    while not stop and step < a.steps and (a.cooldown or seconds < 60 * a.minutes) and (not a.cooldown or cooled < a.cooldown):
        now_share = share(step, a, cooled)
        for o, rates in zip(opts, full):
            for group, rate in zip(o.param_groups, rates):
                group["lr"] = rate * now_share
        indices = data.draw(a.batch)
        pictures = augment(data.pixels(indices), torch.from_numpy(data.flips[indices]), g).to(a.device)
        with torch.autocast(a.device, dtype=torch.bfloat16, enabled=half):
            f, t = net.encode_image(pictures, 1.0 if a.cooldown else a.keep), text_batch(data, indices, net, g, a.device)
        loss = loss_of(f, t, net.logit_scale(), torch.from_numpy(data.concept[indices]).to(a.device))
        net.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for o in opts:
            o.step()
        with torch.no_grad():
            net.scale.clamp_(0, math.log(100.0))
        step, cooled = step + 1, cooled + (1 if a.cooldown else 0)
        total, count = total + loss.detach(), count + 1
        now = time.time()
        seconds, worked = before + now - began, worked_before + time.process_time() - worked_began
        if step % 50 == 0:
            per = (now - said) / count
            goal = (a.cooldown - cooled) if a.cooldown else a.steps - step
            left = f"{goal * per / 3600:.1f} h left" if goal < 10 ** 8 else "until stopped"
            print(f"step {step} loss {float(total) / count:.4f} scale {float(net.logit_scale().detach()):.1f} rate {now_share:.3f} "
                  f"{a.batch / per:.0f}/s {seconds / 3600:.2f} h, {worked / 3600:.2f} h of cores, {left}", flush=True)
            said, total, count = now, 0.0, 0
        if step % a.validate_every == 0:
            print(f"step {step} validation {validate(data, net, a.device)}", flush=True)
            said, count, total = time.time(), 0, 0.0
        if now - saved > SAVE_EVERY:
            save(cool_path if a.cooldown else state_path, state())
            saved = now
    save(cool_path if a.cooldown else state_path, state())
    print(f"step {step} validation {validate(data, net, a.device)} at the end; saved", flush=True)


if __name__ == "__main__":
    main()
