"""The papers' protocol from Python: the program's numbers, and results that several folders share."""

import json
import pickle
import shutil

import pytest

import tipi
from conftest import QUICK, ROOT, TEMPLATE

METHODS = ["zero-shot", "gda", "tip-adapter"]
HOW = {**QUICK, "key_views": 2, "views": 2}


def lines(folder, name):
    """Results without what differs from run to run, sorted."""
    all_of = [json.loads(line) for line in (folder / name / "results.jsonl").read_text().splitlines()]
    for line in all_of:
        assert line.pop("fit_seconds") >= 0 and line.pop("predict_seconds") >= 0 and line.pop("peak_bytes") > 0
    return sorted(all_of, key=lambda line: json.dumps(line, sort_keys=True))


@pytest.fixture(scope="module")
def dataset(folder):
    return tipi.Dataset(folder)


@pytest.fixture(scope="module")
def whole(model, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return model.evaluate([dataset], out, methods=METHODS, shots=[1, 2], seeds=[1, 2], templates=TEMPLATE, how=HOW)


def test_an_evaluation_is_the_programs(whole, dataset, folder, program, tmp_path):
    program(
        "eval", "--model", ROOT / "weights/picto", "--dataset", folder, "--out", tmp_path, "--methods", ",".join(METHODS), "--shots", "1,2",
        "--seeds", "1,2", "--template", TEMPLATE, "--words", "an icon of", "--key-views", "2", "--views", "2", "--grid", "standard",
    )  # fmt: skip
    assert lines(whole.folder, dataset.name) == lines(tmp_path, dataset.name)
    theirs = tipi.Evaluation(tmp_path)
    assert [(mean.method, mean.shots, mean.accuracies) for mean in theirs.means] == [
        (mean.method, mean.shots, mean.accuracies) for mean in whole.means
    ]


def test_results_are_told(whole, dataset, folder):
    assert dataset.name == folder.name and "bell" in dataset.classes and sum(dataset.pictures) == 24 and dataset.notes == []
    assert len(whole.outcomes) == 12 and repr(whole.outcomes[0]).startswith(f"Outcome('{dataset.name}', 'zero-shot', shots=1".replace("'", '"'))
    one = next(one for one in whole.outcomes if (one.method, one.shots, one.seed) == ("gda", 2, 1))
    assert one.accuracy == one.correct / one.pictures and one.pictures == dataset.pictures[2] and one.support == 8
    assert one.temperature > 0 and one.log_loss > 0 and one.foreign == [] and {"wanted", "held", "size", "supported"} == set(one.coverage[0])
    mean = next(mean for mean in whole.means if (mean.method, mean.shots) == ("gda", 2))
    assert mean.seeds == [1, 2] and mean.accuracy == pytest.approx(sum(mean.accuracies) / 2) and mean.dataset == dataset.name
    assert whole.overall == [] and "Tip-Adapter" in whole.write_report().read_text()
    again = pickle.loads(pickle.dumps(dataset))
    assert (again.name, again.classes, again.pictures) == (dataset.name, dataset.classes, dataset.pictures)
    assert "oxford_pets" in tipi.Dataset.names()


def test_parts_are_gathered(model, whole, dataset, tmp_path):
    parts = []
    for method in METHODS:
        for seed in [1, 2]:
            parts.append(tmp_path / f"{method}-{seed}")
            model.evaluate([dataset], parts[-1], methods=[method], shots=[1, 2], seeds=[seed], templates=TEMPLATE, how=HOW)
    out = tmp_path / "all"
    gathered = tipi.Evaluation.gather(out, parts)
    assert lines(out, dataset.name) == lines(whole.folder, dataset.name)

    def nothing_begins(progress):
        raise AssertionError(progress)

    model.evaluate(
        [dataset], out, methods=METHODS, shots=[1, 2], seeds=[1, 2], templates=TEMPLATE, how=HOW, progress=nothing_begins
    )
    assert repr(gathered) == repr(tipi.Evaluation(out))
    model.evaluate([dataset], tmp_path / "other", methods=["zero-shot"], shots=[1], seeds=[3], templates="a {}", how=HOW)
    with pytest.raises(tipi.errors.DataError, match="other settings"):
        tipi.Evaluation.gather(out, [tmp_path / "other"])
    # A result that is there already must be the same, and one that is new must have learned from the same pictures.
    few = tmp_path / "few"
    tipi.Evaluation.gather(few, parts[:1])
    before = lines(few, dataset.name)
    for part, field, value, says in [
        (parts[0], "temperature", 3.25, "is in .*few.* with another result .temperature "),
        (parts[2], "data", "0" * 64, "gda.* has not learned from the pictures that zero-shot.* learned from"),
    ]:
        changed = tmp_path / f"changed-{field}"
        shutil.copytree(part, changed)
        journal = changed / dataset.name / "results.jsonl"
        records = [json.loads(line) for line in journal.read_text().splitlines()]
        records[0][field] = value
        journal.write_text("".join(json.dumps(record) + "\n" for record in records))
        with pytest.raises(tipi.errors.DataError, match=says):
            tipi.Evaluation.gather(few, [changed])
        assert lines(few, dataset.name) == before


def test_wrong_arguments_are_named(model, dataset, tmp_path):
    for call, kind, says in [
        (lambda **rest: model.evaluate("pictures", tmp_path, **rest), TypeError, r"datasets: .*write \[path\] for one"),
        (lambda **rest: model.evaluate(3, tmp_path, **rest), TypeError, "datasets: expected a list of Dataset or paths, not int"),
        (lambda **rest: model.evaluate([3], tmp_path, **rest), TypeError, "datasets: expected a path, not int"),
        (lambda **rest: model.evaluate([tmp_path / "none"], tmp_path, **rest), tipi.Error, "none"),
        (lambda **rest: model.evaluate([dataset], tmp_path, methods=["no-such"]), tipi.Error, "no-such"),
        (lambda **rest: model.evaluate([dataset], tmp_path, shots=["one"], **rest), TypeError, "shots: expected a list of numbers"),
        (lambda **rest: model.evaluate([dataset], tmp_path, shots=[0], **rest), tipi.Error, "0 shots"),
        (lambda **rest: model.evaluate([dataset], tmp_path, settings=[1], **rest), TypeError, "settings: expected a dict"),
        (lambda **rest: model.evaluate([dataset], tmp_path, settings={"gda": {"alhpa": 1}}, **rest), tipi.Error, "alhpa"),
        (lambda **rest: model.evaluate([dataset], tmp_path, how={"keys": 1}, **rest), tipi.Error, "how: there is no 'keys'"),
        (lambda **rest: tipi.Dataset.named("no-such", tmp_path), tipi.Error, "there is no dataset 'no-such'"),
        (lambda **rest: tipi.Evaluation(tmp_path), tipi.Error, "no results"),
        (lambda **rest: tipi.Evaluation.gather(tmp_path / "x", [tmp_path]), tipi.Error, "there are no results here"),
    ]:
        with pytest.raises(kind, match=says):
            call(methods=["zero-shot"])
