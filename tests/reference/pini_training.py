"""PiNI trained from start to end by automatic differentiation in JAX, to compare whole runs with `tipi fit pini`.

    pip install jax tokenizers safetensors
    python3 tests/reference/pini_training.py --epochs 10 --lr 0.00435 --seeds 1 2 3

Needs the program built (`cargo build --release`): image features come from `tipi embed`, which the golden cases check.
Noise, shuffles and initial values come from another generator than tipi's, so accuracies agree in their mean, not in
single pictures. The choice of pictures is Python's own, as in CoOp's code.
"""

import argparse
import json
import math
import random
import subprocess
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "weights" / "picto"
SHOTS = 2
BATCH = 32
MOMENTUM, DECAY = 0.9, 5e-4


def load(path):
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}, file.metadata()


def image_features(folder):
    """Features of all pictures below `folder`, with their paths."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "features.safetensors"
        tipi = ROOT / "target" / "release" / "tipi"
        subprocess.run([tipi, "embed", "image", "--model", MODEL, "--out", out, folder], check=True)
        tensors, metadata = load(out)
    return tensors["features"], json.loads(metadata["inputs"])


class TextTower:
    """The bundled model's text tower on padded prompts; what follows the end token changes nothing."""

    def __init__(self, classes, template):
        self.w, _ = load(MODEL / "model.safetensors")
        config = json.loads((MODEL / "config.json").read_text())["text_config"]
        self.heads, self.layers = config["num_attention_heads"], config["num_hidden_layers"]
        tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
        ids = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        prefix = "x " * 16 + template
        self.noisy = len(ids(prefix))
        start, stop = config["bos_token_id"], config["eos_token_id"]
        rows = [[start, *ids(f"{prefix} {name}."), stop] for name in classes]
        self.end = np.array([len(row) - 1 for row in rows])
        length = self.end.max() + 1
        padded = np.array([row + [stop] * (length - len(row)) for row in rows])
        embeddings = "text_model.embeddings."
        self.tokens = jnp.array(
            self.w[embeddings + "token_embedding.weight"][padded]
            + self.w[embeddings + "position_embedding.weight"][:length]
        )
        self.mask = jnp.where(jnp.tril(jnp.ones((length, length))) > 0, 0.0, -1e9)

    def norm(self, x, name):
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.w[name + ".weight"] + self.w[name + ".bias"]

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def features(self, mean, spread, eps):
        x = self.tokens.at[:, 1 : 1 + self.noisy].add(spread * eps + mean)
        classes, length, width = x.shape
        split = lambda y: y.reshape(classes, length, self.heads, width // self.heads).transpose(0, 2, 1, 3)
        for layer in range(self.layers):
            at = f"text_model.encoder.layers.{layer}."
            h = self.norm(x, at + "layer_norm1")
            q, k, v = (split(self.linear(h, f"{at}self_attn.{part}_proj")) for part in "qkv")
            scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(width // self.heads) + self.mask
            mixed = (jax.nn.softmax(scores, -1) @ v).transpose(0, 2, 1, 3).reshape(classes, length, width)
            x = x + self.linear(mixed, at + "self_attn.out_proj")
            h = self.linear(self.norm(x, at + "layer_norm2"), at + "mlp.fc1")
            x = x + self.linear(h * jax.nn.sigmoid(1.702 * h), at + "mlp.fc2")
        last = self.norm(x[jnp.arange(classes), self.end], "text_model.final_layer_norm")
        return last @ self.w["text_projection.weight"].T


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def run(tower, features, labels, lr, epochs, seed):
    random.seed(seed)
    groups = [np.flatnonzero(labels == c).tolist() for c in range(labels.max() + 1)]
    support = [i for group in groups for i in random.sample(group, SHOTS)]
    left = [[i for i in group if i not in support] for group in groups]
    val = [i for group in left for i in (random.sample(group, SHOTS) if len(group) > SHOTS else group)]
    test = np.array([i for i in range(len(labels)) if i not in support and i not in val])

    rng, d = np.random.default_rng(seed), features.shape[1]
    shape = (tower.noisy, tower.tokens.shape[-1])
    p = {"text_mean": rng.normal(0, 0.02, shape), "text_spread": rng.normal(0, 0.02, shape)}
    for name in ("query", "key", "value", "spread", "mean"):
        p[name] = rng.uniform(-1, 1, (d, d)) / math.sqrt(d)
        p[name + "_bias"] = rng.uniform(-1, 1, d) / math.sqrt(d)
    p = {name: jnp.array(value, jnp.float32) for name, value in p.items()}
    velocity = {name: jnp.zeros_like(value) for name, value in p.items()}
    scale = float(np.exp(tower.w["logit_scale"]))

    @jax.jit
    def logits(p, v, eps_text, eps_image):
        t = tower.features(p["text_mean"], p["text_spread"], eps_text)
        layer = lambda x, name: x @ p[name].T + p[name + "_bias"]
        z = jax.nn.softmax(layer(v, "query") @ layer(t, "key").T, -1) @ layer(t, "value")
        noisy = v + jnp.abs(layer(z, "spread")) * eps_image + layer(z, "mean")
        return scale * unit(noisy) @ unit(t).T

    def loss(p, v, y, eps_text, eps_image):
        return -jax.nn.log_softmax(logits(p, v, eps_text, eps_image))[jnp.arange(len(y)), y].mean()

    def accuracy():
        scores = logits(p, features[test], jnp.zeros(shape), jnp.zeros((len(test), d)))
        return float((np.argmax(np.array(scores), -1) == labels[test]).mean())

    gradient = jax.jit(jax.grad(loss))
    before = accuracy()
    for epoch in range(epochs):
        rate = 1e-5 if epoch == 0 else lr / 2 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
        order = rng.permutation(support)
        for i in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[i : i + BATCH]
            eps = (jnp.array(rng.normal(size=s), jnp.float32) for s in (shape, (BATCH, d)))
            g = gradient(p, features[rows], labels[rows], *eps)
            for name in p:
                velocity[name] = MOMENTUM * velocity[name] + g[name] + DECAY * p[name]
                p[name] = p[name] - rate * velocity[name]
    return before, accuracy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", type=float, default=0.00435)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    features, paths = image_features(ROOT / "examples" / "pictos" / "shifted")
    folders = [Path(path).parent.name for path in paths]
    classes = sorted(set(folders))
    labels = np.array([classes.index(folder) for folder in folders])
    tower = TextTower([name.replace("_", " ") for name in classes], "an icon of")
    results = [run(tower, features, labels, args.lr, args.epochs, seed) for seed in args.seeds]
    for seed, (before, after) in zip(args.seeds, results):
        print(f"seed {seed}: untrained {100 * before:.1f} %, trained {100 * after:.1f} %")
    before, after = 100 * np.mean(results, axis=0)
    print(f"mean: untrained {before:.1f} %, trained {after:.1f} %")


if __name__ == "__main__":
    main()
