"""Models, adapters, examples, galleries."""

import copy
import os
import pickle
import warnings

import numpy as np
import pytest

import tipi
from conftest import PICTURES, QUICK, ROOT, TEMPLATE


def test_what_is_asked_of_a_model(model):
    assert model.folder == ROOT / "weights/picto"
    assert len(model.digest()) == 64 and model.device.name in repr(model)
    assert model.device.allocated_bytes > 0 and model.device.peak_bytes >= model.device.allocated_bytes
    texts = model.encode_texts(np.array(["an icon of a bell", "an icon of a car"]))
    assert texts.shape == (2, model.width) and texts.dtype == np.float32
    assert [report.default for report in tipi.devices()].count(True) == 1
    model.release()
    model.device.check()


def test_wrong_arguments_are_named(model, tmp_path):
    for call, says in [
        (lambda: model.encode_texts("a bell"), r"texts: expected a list of str: write \[text\]"),
        (lambda: model.encode_texts([1]), "texts: expected a list of str, not one with int"),
        (lambda: model.encode_texts(3), "texts: expected a list of str, not int"),
        (lambda: model.zero_shot({"a": "prompt"}), r"""classes\["a"\]: expected a list of str"""),
        (lambda: model.fit(["a.png"]), r"examples: expected Examples or a dict .*, not list"),
        (lambda: model.fit({1: ["a.png"]}), "examples: a class's name is a str, not int"),
        (lambda: model.fit({"a": "x.png", "b": ["y.png"]}), r"""examples\["a"\]: expected a list of pictures"""),
        (lambda: model.fit({}, settings=3), "settings: expected a dict, not int"),
        (lambda: model.open_adapter(3), "adapter: expected a path, not int"),
        (lambda: tipi.Model("x", device=1.5), "device: expected a Device, or the name or number of one, not float"),
        (lambda: tipi.Gallery([1.0]), r"features: expected an array \[n, width\] of float32, not list"),
        (lambda: tipi.Gallery(np.zeros((2, 3))), "features: an array of float64: expected float32"),
    ]:
        with pytest.raises(TypeError, match=says):
            call()
    plain = {"a": ["a.png"], "b": ["b.png"]}
    for call, says in [
        (lambda: tipi.Model("x", precision="f8"), "precision: there is no 'f8'; there are f32, f16, int8"),
        (lambda: tipi.Model("x", depth="deep"), "depth: there is no 'deep'"),
        (lambda: tipi.Model(tmp_path / "nothing here"), "nothing here"),
        (lambda: tipi.Model("no name!"), "neither an existing folder or file nor a model on the hub"),
        (lambda: model.zero_shot([]), "class"),
        (lambda: model.zero_shot(["a", "b"], "no braces"), "{}"),
        (lambda: model.fit(plain, "no-such-method"), "no-such-method"),
        (lambda: model.fit(plain, settings={"alhpa": 1}), "no setting 'alhpa'"),
        (lambda: model.fit(plain, settings={"alpha": float("nan")}), "settings: "),
        (lambda: model.fit(plain, settings={"alpha": object()}), "settings: object is no number, text or list"),
        (lambda: model.fit(plain, how={"keys": 1}), "how: there is no 'keys'; there are augment, grid"),
        (lambda: model.fit({"a": ["a.png"]}), "1 class: at least two are needed"),
        (lambda: model.fit_correction(plain, {"lr": 1}), "there is no 'lr'"),
        (lambda: tipi.Gallery(np.zeros((2, 3, 4), np.float32)), r"features: an array of shape \(2, 3, 4\): expected \(n, width\)"),
        (lambda: tipi.Gallery(np.zeros((4, 8), np.float32)[:, ::2]), "features: the array is not C-contiguous"),
        (lambda: tipi.Gallery(np.full((2, 3), np.nan, np.float32)), "row 0, column 0 is NaN"),
    ]:  # fmt: skip
        with pytest.raises(tipi.errors.InvalidError, match=says) as raised:
            call()
        assert isinstance(raised.value, ValueError) and isinstance(raised.value, tipi.Error)
    with pytest.raises(OverflowError):
        model.fit(plain, seed=-1)


def test_errors_have_the_librarys_kinds(model, paths, tmp_path, monkeypatch):
    with pytest.raises(tipi.errors.NotFoundError) as raised:
        model.open_adapter(tmp_path / "none.safetensors")
    error = raised.value
    assert isinstance(error, FileNotFoundError) and isinstance(error, tipi.errors.IoError)
    assert error.path == tmp_path / "none.safetensors" and str(error).startswith(str(tmp_path)) and error.errno == 2
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and again.path == error.path
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(tipi.errors.SafetensorsError, match="broken.safetensors"):
        model.open_adapter(tmp_path / "broken.safetensors")
    with pytest.raises(tipi.Error, match="adapter"):
        model.open_adapter(b"nothing of the kind")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(tipi.errors.ForeignError) as raised:
        model.zero_shot(["a bell", "a cat"]).save(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine" and raised.value.wanted
    with pytest.raises(tipi.errors.DeviceNotFoundError) as raised:
        tipi.Device("no such device")
    assert raised.value.asked == "no such device" and raised.value.available
    with pytest.raises(tipi.errors.DataError):
        tipi.Examples.from_folder(PICTURES / "bell")
    with pytest.raises(tipi.errors.OutOfMemoryError) as raised:
        tipi.Model(ROOT / "weights/picto", device=tipi.Device(memory=1 << 20)).encode_images(paths)
    assert isinstance(raised.value, MemoryError) and raised.value.needed > 0


def test_every_kind_of_the_library_has_its_exception():
    text = (ROOT / "src/error.rs").read_text().split("pub enum Error {")[1].split("\n}\n")[0]
    kinds = [line.strip().split(" ")[0].split("(")[0].rstrip(",{") for line in text.splitlines() if line[:4] == "    " and line[4:5].isupper()]
    assert len(kinds) > 15 and "NoDevice" in kinds and "Invalid" in kinds
    used = (ROOT / "bindings/python/src/errors.rs").read_text()
    for kind in kinds:
        assert issubclass(getattr(tipi.errors, kind + "Error"), tipi.Error)
        assert f"Error::{kind}" in used, kind


def test_answers(adapter, classes, paths):
    assert adapter.classes == list(classes) and adapter.method == "tip-adapter" and adapter.facts.startswith("alpha")
    assert adapter.report.validation_pictures == 8 and 0 <= adapter.report.validation_accuracy <= 1
    assert adapter.evidence["validation"] == 8 and adapter.temperature > 0 and adapter.thresholds is None
    answers = adapter.predict(paths)
    assert len(answers) == len(paths) and answers.classes == adapter.classes
    assert answers.scores.shape == (len(paths), 4) and answers.scores.dtype == np.float32
    assert answers.probabilities.dtype == np.float64 and np.allclose(answers.probabilities.sum(axis=1), 1)
    first, last = answers[0], answers[-1]
    assert first.label == answers.labels[0] == first.best.name == first.top(4)[0].name
    assert np.array_equal(last.scores, answers.scores[-1]) and np.array_equal(first.probabilities, answers.probabilities[0])
    assert first.best.probability == first.probabilities.max() and first.set is None and first.familiarity is None
    assert [one.name for one in list(answers)[0].top(2)] == [one.name for one in first.top(2)]
    with pytest.raises(IndexError):
        answers[len(paths)]
    right = sum(label == path.parent.name for label, path in zip(answers.labels, paths, strict=True))
    assert right > len(paths) // 2
    features = adapter.model.encode_images(paths)
    assert adapter.takes_features and np.array_equal(adapter.predict_features(features).scores, answers.scores)
    assert np.array_equal(adapter.in_batches_of(3).predict(paths).scores, answers.scores)


def test_unknown_and_sets(model, adapter, paths):
    assert adapter.asking_for(1.0).predict(paths[:2]).labels == [None, None]
    kept = adapter.keeping(0.5, "probability").predict(paths[:2])
    assert kept[0].familiarity == kept[0].best.probability
    assert adapter.covering(0.5).predict(paths[:1])[0].set[0].name == adapter.predict(paths[:1])[0].best.name
    assert 0 < adapter.supported(per_class=True) <= adapter.supported() < 1
    for call, says in [
        (lambda: adapter.keeping(0.5, "colour"), "by: there is no 'colour'; there are probability, energy, distance"),
        (lambda: adapter.asking_for(1.5), "probability"),
        (lambda: adapter.in_batches_of(0), "pictures: 0 at a time"),
        (lambda: adapter.predict([], errors="ignore"), "errors: expected 'raise' or 'keep', not 'ignore'"),
        (lambda: adapter.predict_features(np.zeros((2, 3), np.float32)), f"features are 3 wide, the model's {model.width}"),
    ]:
        with pytest.raises(tipi.errors.InvalidError, match=says):
            call()


def test_broken_pictures_can_be_passed_over(adapter, paths):
    answers = adapter.predict([paths[0], b"broken", paths[1]], errors="keep")
    assert np.isnan(answers.probabilities[1]).all() and not np.isnan(answers.scores[[0, 2]]).any()
    assert answers.labels[1] is None and isinstance(answers.errors[1], tipi.errors.ImageError) and answers.errors[0] is None
    with pytest.raises(tipi.errors.ImageError, match=r"images\[1\]"):
        answers[1]
    assert np.array_equal(answers.scores[[0, 2]], adapter.predict(paths[:2]).scores)


def test_words_alone(model, paths):
    plain = model.zero_shot(["bell", "car"])
    assert np.array_equal(plain.predict(paths[:2]).scores, model.zero_shot(["bell", "car"], ["a photo of a {}."]).predict(paths[:2]).scores)
    own = model.zero_shot({"bell": ["a photo of a bell."], "car": ["a photo of a car."]})
    assert np.array_equal(own.predict(paths[:2]).scores, plain.predict(paths[:2]).scores)
    several = model.zero_shot(["bell", "car"], ["an icon of {}", "a drawing of {}"])
    assert not np.array_equal(several.predict(paths[:2]).scores, plain.predict(paths[:2]).scores)
    assert plain.report is None and plain.temperature is None
    with pytest.raises(tipi.errors.InvalidError, match="templates"):
        model.zero_shot({"bell": ["bell"], "car": ["car"]}, "an icon of {}")


def test_examples_choose_and_leave_out(model, classes, tmp_path):
    examples = tipi.Examples()
    for name, of_class in classes.items():
        for path in of_class:
            examples.add(name, path)
    examples.add("bell", b"broken")
    chosen = examples.choose(2, seed=1)
    assert len(chosen.support) == 8 and len(chosen.validation) == 8 and chosen.classes == list(classes)
    assert len(chosen.skipped) == 1 and isinstance(chosen.skipped[0], tipi.errors.ImageError)
    assert chosen.support == examples.choose(2, seed=1).support != examples.choose(2, seed=2).support
    assert len(examples.sound().support) == len(examples.support) - 1
    with pytest.warns(tipi.Note, match="shot|fewer|has"):
        examples.choose(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(tipi.Note):
            examples.choose(100)
    with pytest.raises(tipi.errors.InvalidError, match="0 shots"):
        examples.choose(0)
    other = examples.copy()
    other.clear()
    assert other.support == [] and examples.support
    few = {name: of_class[:2] for name, of_class in classes.items()}
    by_dict = model.fit(few, templates=TEMPLATE, how=QUICK)
    added = tipi.Examples()
    for name, of_class in few.items():
        for path in of_class:
            added.add(name, path)
    assert model.fit(added, templates=TEMPLATE, how=QUICK).to_bytes() == by_dict.to_bytes()


def test_kept_and_opened_again(model, adapter, paths, tmp_path):
    adapter.save(tmp_path / "mine.safetensors")
    data = (tmp_path / "mine.safetensors").read_bytes()
    assert data == adapter.to_bytes()
    scores = adapter.predict(paths[:3]).scores
    for again in (model.open_adapter(tmp_path / "mine.safetensors"), model.open_adapter(data), pickle.loads(pickle.dumps(adapter))):
        assert np.array_equal(again.predict(paths[:3]).scores, scores) and again.report is None
    assert copy.deepcopy(adapter) is adapter and copy.copy(model) is model


def test_a_model_is_pickled_by_its_name(model, paths, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    named = pickle.dumps(tipi.Model("weights/picto", precision="int8"))
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(named)
    assert again.folder == ROOT / "weights/picto"
    int8, f32 = again.encode_images(paths[:1]), model.encode_images(paths[:1])
    assert not np.array_equal(int8, f32) and np.allclose(int8, f32, atol=0.1 * np.abs(f32).max())
    device = pickle.loads(pickle.dumps(tipi.Device(memory=1 << 30)))
    assert device.memory == 1 << 30


def test_methods_and_settings(model, classes):
    methods = {method.name: method for method in tipi.methods()}
    assert {"tip-adapter", "gda", "pini", "zero-shot"} <= methods.keys()
    assert methods["tip-adapter-f"].trains and methods["tip-adapter++"].needs_correction
    prior = next(setting for setting in methods["gda"].settings if setting.name == "prior")
    assert isinstance(prior.default, str) and prior.help
    few = {name: of_class[:2] for name, of_class in classes.items()}
    trained = model.fit(few, "prolip", templates=TEMPLATE, how=QUICK, settings={"epochs": np.int64(2), "lr": np.float32(0.5)})
    assert len(trained.report.losses) == 2
    assert not model.fit(few, "gda", templates=TEMPLATE, how=QUICK).report.losses


def test_a_correction_makes_the_corrected_method(model, classes, tmp_path):
    few = {name: of_class[:2] for name, of_class in classes.items()}
    correction = model.fit_correction(few, {"epochs": 1, "batch": 4, "bottleneck": 8})
    assert correction.epochs == 1 and correction.classes == list(classes) and len(correction.report.losses) == 1
    correction.save(tmp_path / "correction.safetensors")
    again = model.open_correction(correction.to_bytes())
    assert (tmp_path / "correction.safetensors").read_bytes() == again.to_bytes()
    corrected = model.fit(few, templates=TEMPLATE, how=QUICK, correction=again)
    assert corrected.method == "tip-adapter++" and not corrected.takes_features
    with pytest.raises(tipi.errors.InvalidError, match="correction"):
        model.fit(few, "tip-adapter++", how=QUICK)


def test_a_gallery_finds_what_is_alike(model, paths):
    features = model.encode_images([*paths, paths[0]])
    gallery = tipi.Gallery(features)
    assert len(gallery) == len(features) and gallery.width == model.width
    rows, cosines = gallery.nearest(features, 2)
    assert rows.shape == cosines.shape == (len(features), 2) and rows.dtype == np.int64 and cosines.dtype == np.float32
    assert rows[0].tolist() == [0, len(paths)] and np.allclose(cosines[:, 0], 1, atol=1e-5)
    assert gallery.nearest_others(1)[0][0, 0] == len(paths)
    assert [row for row, _ in gallery.duplicates(0.9999)[0]] == [0, len(paths)]
    texts = gallery.nearest(model.encode_texts(["an icon of a bell"]), 100)
    assert texts[0].shape == (1, len(features))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(np.sort(unit @ unit[3])[::-1][:5], gallery.nearest(features[3:4], 5)[1][0], atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_told(model, paths):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            model.encode_images(paths[:1])
        except tipi.Error as error:
            said = str(error)
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    said = os.read(read, 4096).decode()
    os.waitpid(child, 0)
    assert "before this process was forked" in said and "spawn" in said
