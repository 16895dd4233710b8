"""The estimator is one of scikit-learn's."""

import pickle

import numpy as np
import pytest
from PIL import Image

import tipi
from conftest import QUICK, ROOT, TEMPLATE

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from tipi.sklearn import FewShotClassifier

PICTO = str(ROOT / "weights/picto")


@pytest.fixture(scope="module")
def data(classes):
    """Paths and labels, mixed."""
    X = [path for of_class in classes.values() for path in of_class]
    y = [name for name, of_class in classes.items() for _ in of_class]
    order = np.random.default_rng(5).permutation(len(X))
    return [X[i] for i in order], np.array([y[i] for i in order])


def estimator(**parameters):
    return FewShotClassifier(PICTO, templates=TEMPLATE, how=QUICK, **parameters)


def test_it_learns_and_answers(data):
    X, y = data
    learned = estimator().fit(X[:12], y[:12])
    assert learned.classes_.tolist() == sorted(set(y))
    probabilities = learned.predict_proba(X)
    assert probabilities.shape == (len(X), 4) and np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(learned.predict(X), learned.classes_[probabilities.argmax(axis=1)])
    assert learned.score(X, y) == np.mean(learned.predict(X) == y) > 0.5
    assert np.array_equal(estimator().fit(X[:12], y[:12]).predict_proba(X), probabilities)


def test_it_is_the_models_own_fit(model, data):
    X, y = data
    by_class = {name: [path for path, label in zip(X, y, strict=True) if label == name] for name in sorted(set(y))}
    ours = model.fit(by_class, templates=TEMPLATE, how=QUICK, seed=1)
    assert FewShotClassifier(model, templates=TEMPLATE, how=QUICK).fit(X, y).adapter_.to_bytes() == ours.to_bytes()


def test_labels_may_be_numbers_with_names(data):
    X, y = data
    names, numbers = np.unique(y, return_inverse=True)
    named = estimator(class_names=dict(enumerate(names.tolist()))).fit(X, 10 * numbers // 10)
    by_name = estimator().fit(X, y)
    assert named.classes_.tolist() == [0, 1, 2, 3] and named.adapter_.classes == names.tolist()
    assert np.array_equal(named.predict_proba(X), by_name.predict_proba(X))
    assert np.array_equal(named.predict(X), np.searchsorted(names, by_name.predict(X)))


def test_pictures_come_in_many_forms(data):
    X, y = data
    learned = estimator().fit(X, y)
    want = learned.predict_proba(X[:3])
    pandas = pytest.importorskip("pandas")
    column = pandas.DataFrame({"path": [str(path) for path in X[:3]]})
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in X[:3]]
    for form in (np.array([str(path) for path in X[:3]]), column["path"], column, [X[0], arrays[1], X[2].read_bytes()], arrays):
        assert np.array_equal(learned.predict_proba(form), want)


def test_parameters_clones_and_pickles(model, data):
    X, y = data
    one = estimator(method="gda", settings={"alpha": 2.0}, random_state=7)
    assert one.get_params()["method"] == "gda" and clone(one).get_params() == one.get_params()
    assert clone(one).set_params(method="tip-adapter").method == "tip-adapter"
    assert clone(FewShotClassifier(model)).model is model
    assert "FewShotClassifier" in repr(one)
    one.fit(X, y)
    again = pickle.loads(pickle.dumps(one))
    assert np.array_equal(again.predict_proba(X[:4]), one.predict_proba(X[:4])) and again.get_params() == one.get_params()
    with pytest.raises(NotFittedError):
        clone(one).predict(X)


def test_searches_and_folds(data):
    X, y = data
    scores = cross_val_score(estimator(), X, y, cv=StratifiedKFold(3))
    assert scores.shape == (3,) and scores.min() > 0.3
    grid = {"method": ["tip-adapter", "gda"], "settings": [None]}
    search = GridSearchCV(estimator(), grid, cv=2).fit(X, y)
    assert search.best_params_["method"] in grid["method"] and not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert search.predict(X).shape == (len(X),)
    # Other processes load the model by its name.
    apart = cross_val_score(estimator(), X, y, cv=StratifiedKFold(3), n_jobs=2)
    assert np.array_equal(apart, scores)
    assert make_pipeline(FunctionTransformer(), estimator()).fit(X, y).score(X, y) > 0.5


def test_what_cannot_be_learned_is_said(data):
    X, y = data
    for x, labels, says in [
        (X, ["bell"] * len(X), "1 class"), (X[:3], y[:2], "3 pictures and y 2 labels"), ([], [], "0 sample"),
        (X, np.linspace(0, 1, len(X)), "Unknown label type"), (X, None, "requires y"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=says):
            estimator().fit(x, labels)
    with pytest.raises(ValueError, match="same name"):
        estimator(class_names=dict.fromkeys(y, "same")).fit(X, y)
    with pytest.raises(tipi.errors.ImageError, match=rf"X\[{len(X)}\]"):
        estimator().fit([*X, b"broken"], [*y, y[0]])


class OfRows(FewShotClassifier):
    """Rows of numbers as pictures of stripes, so that scikit-learn's checks have something to give it."""

    def _pictures(self, X):
        # One scale for all, and a row is a picture whatever the others are.
        grey = np.uint8(np.clip(128 + 24 * np.asarray(X, np.float64), 0, 255))
        return [np.repeat(np.repeat(row[None, :, None], 16, axis=0), 3, axis=2).repeat(4, axis=1) for row in grey]

    def fit(self, X, y):
        if y is None:
            return super().fit(X, y)
        X, y = validate_data(self, X, y)
        return super().fit(self._pictures(X), y)

    def predict_proba(self, X):
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return super().predict_proba(self._pictures(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.no_validation = False
        tags.input_tags.two_d_array = True
        tags.input_tags.string = False
        # A CLIP of icons tells stripes apart badly, so that checks of how well it learns ask for less.
        tags.classifier_tags.poor_score = True
        return tags


# No check is expected to fail. Of the estimator as it is, scikit-learn leaves out those that need data, since it has tables of numbers and no
# pictures to give ("Can't test estimator FewShotClassifier which requires input of type ..."); of OfRows it runs all.
@parametrize_with_checks([OfRows(PICTO, how=QUICK), FewShotClassifier(PICTO, how=QUICK)])
def test_scikit_learns_checks(estimator, check):
    if getattr(check, "keywords", {}).get("readonly_memmap"):
        pytest.skip("rows are copied into pictures: it is the same as without a file behind them")
    check(estimator)
