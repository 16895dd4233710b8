"""Writes what CoOp and Dassl choose from small lists, for the tests of src/data/sampling.rs and src/data/dataset/split.rs.

    python tests/reference/coop_splits.py tests/fixtures/coop_splits.json

A re-statement, on lists of numbers, of three functions, with nothing but Python's own `random`:

- `generate_fewshot_dataset` (Dassl, dassl/data/datasets/base_dataset.py), called for train and then for val with
  min(shots, 4), as CoOp's datasets do;
- `split_trainval` (CoOp, datasets/oxford_pets.py);
- `read_and_split_data` (CoOp, datasets/dtd.py), from files in the order of their names.

`few_shot_without_val` is tipi's own for ImageNet, which has no val there: after the shots, min(shots, 4) of each class's
train items that are left.
"""

import json
import random
import sys
from collections import defaultdict

SEEDS = (1, 2, 3)
SHOTS = (1, 2, 4, 8, 16)
# Classes of these sizes; some have fewer items than shots, and one has many.
TRAIN = [30, 3, 16, 9, 1, 4, 120, 17, 8]
VAL = [10, 1, 4, 3, 2, 5, 30, 6, 4]
FOLDERS = [40, 5, 7, 11, 101, 25]


def shuffled_labels(sizes, seed):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    random.Random(seed).shuffle(labels)
    return labels


def split_dataset_by_label(items):
    tracker = defaultdict(list)
    for item in items:
        tracker[item[1]].append(item)
    return tracker


def generate_fewshot_dataset(items, num_shots):
    dataset = []
    for _, group in split_dataset_by_label(items).items():
        if len(group) >= num_shots:
            sampled = random.sample(group, num_shots)
        else:
            sampled = group
        dataset.extend(sampled)
    return dataset


def few_shot(train, val, shots, seed):
    random.seed(seed)
    support = generate_fewshot_dataset(train, shots)
    chosen = generate_fewshot_dataset(val, min(shots, 4))
    return {"seed": seed, "shots": shots, "support": ids(support), "val": ids(chosen)}


def few_shot_without_val(train, shots, seed):
    random.seed(seed)
    support = generate_fewshot_dataset(train, shots)
    taken = set(ids(support))
    # Groups stay in the order in which labels appear in the whole list.
    chosen = []
    for _, group in split_dataset_by_label(train).items():
        left = [item for item in group if item[0] not in taken]
        want = min(shots, 4)
        chosen.extend(random.sample(left, want) if len(left) >= want else left)
    return {"seed": seed, "shots": shots, "support": ids(support), "val": ids(chosen)}


def split_trainval(trainval, seed, p_val=0.2):
    random.seed(seed)
    tracker = defaultdict(list)
    for idx, item in enumerate(trainval):
        tracker[item[1]].append(idx)
    train, val = [], []
    for _, idxs in tracker.items():
        n_val = round(len(idxs) * p_val)
        random.shuffle(idxs)
        for n, idx in enumerate(idxs):
            (val if n < n_val else train).append(trainval[idx])
    return {"seed": seed, "train": ids(train), "val": ids(val)}


def read_and_split_data(folders, seed, p_trn=0.5, p_val=0.2):
    random.seed(seed)
    train, val, test = [], [], []
    for folder in folders:
        images = list(folder)
        random.shuffle(images)
        n_total = len(images)
        n_train = round(n_total * p_trn)
        n_val = round(n_total * p_val)
        n_test = n_total - n_train - n_val
        assert n_train > 0 and n_val > 0 and n_test > 0
        train.extend(images[:n_train])
        val.extend(images[n_train : n_train + n_val])
        test.extend(images[n_train + n_val :])
    return {"seed": seed, "train": train, "val": val, "test": test}


def ids(items):
    return [item[0] for item in items]


def main():
    labels, val_labels = shuffled_labels(TRAIN, 7), shuffled_labels(VAL, 8)
    train, val = list(enumerate(labels)), list(enumerate(val_labels))
    folders, start = [], 0
    for size in FOLDERS:
        folders.append(list(range(start, start + size)))
        start += size
    fixture = {
        "labels": labels,
        "val_labels": val_labels,
        "folders": folders,
        "few_shot": [few_shot(train, val, shots, seed) for seed in SEEDS for shots in SHOTS],
        "few_shot_without_val": [few_shot_without_val(train, shots, seed) for seed in SEEDS for shots in SHOTS],
        "hold_out": [split_trainval(train, seed) for seed in SEEDS],
        "three_ways": [read_and_split_data(folders, seed) for seed in SEEDS],
    }
    with open(sys.argv[1], "w") as file:
        json.dump(fixture, file, separators=(",", ":"))
        file.write("\n")


main()
