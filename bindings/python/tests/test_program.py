"""Python and the program give the same bits."""

import json

import numpy as np
import pytest

import tipi
from conftest import PICTURES, QUICK, ROOT, TEMPLATE

MODEL = ("--model", "weights/picto")


def same(said, answers):
    """The program's lines say what the answers do, to the last bit."""
    lines = [json.loads(line) for line in said.splitlines()]
    assert len(lines) == len(answers) > 0
    for line, ours in zip(lines, answers, strict=True):
        best = ours.best
        assert (line["class"], line["probability"]) == (ours.label, best.probability)
        assert np.float32(line["logit"]) == np.float32(best.score)


def test_features_are_the_programs(program, model, tmp_path):
    program("embed", "image", *MODEL, "--out", tmp_path / "pictures.npy", "examples/pictos/shifted/bell")
    names = (tmp_path / "pictures.paths.txt").read_text().splitlines()
    theirs = np.load(tmp_path / "pictures.npy")
    ours = model.encode_images([ROOT / name for name in names])
    assert len(names) == len(list((PICTURES / "bell").iterdir())) and np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))
    texts = ["an icon of a bell", "ein Glöckchen"]
    program("embed", "text", *MODEL, "--out", tmp_path / "texts.npy", *texts)
    theirs = np.load(tmp_path / "texts.npy")
    assert np.array_equal(model.encode_texts(texts).view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize(("name", "more", "settings"), [("tip", [], {}), ("gda", [], {}), ("tip-f", ["--epochs", "2"], {"epochs": 2})])
def test_adapters_and_answers_are_the_programs(program, model, folder, paths, tmp_path, name, more, settings):
    file = tmp_path / "program.safetensors"
    quick = ["--key-views", "0", "--template", TEMPLATE] + (["--grid", "standard"] if name.startswith("tip") else [])
    program("fit", name, *MODEL, "--data", folder, "--shots", "2", "--seed", "3", *quick, *more, "--out", file)
    examples = tipi.Examples.from_folder(folder).choose(2, seed=3)
    adapter = model.fit(examples, name, templates=TEMPLATE, how=QUICK, settings=settings, seed=3)
    ours = tmp_path / "python.safetensors"
    adapter.save(ours)
    assert ours.read_bytes() == file.read_bytes() == adapter.to_bytes()

    said = program("predict", "--adapter", file, "--jsonl", "--scores", *paths[:6])
    answers = model.open_adapter(file).predict(paths[:6])
    assert np.array_equal(answers.scores, adapter.predict(paths[:6]).scores)
    same(said, answers)


def test_names_alone_answer_as_the_program(program, model, paths):
    said = program("classify", *MODEL, "--labels", "bell,car", "--template", TEMPLATE, "--jsonl", "--scores", *paths[:4])
    answers = model.zero_shot(["bell", "car"], TEMPLATE).predict(paths[:4])
    same(said, answers)
