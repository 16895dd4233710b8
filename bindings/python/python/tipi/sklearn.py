"""tipi as an estimator of scikit-learn (``pip install tipi[sklearn]``)::

    from sklearn.model_selection import GridSearchCV
    from tipi.sklearn import FewShotClassifier

    search = GridSearchCV(FewShotClassifier("openai/clip-vit-base-patch32"), {"method": ["tip-adapter", "gda"]}, cv=4)
    search.fit(paths, labels)
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

import tipi
from tipi._models import loaded
from tipi.types import How, OnProgress, Pictures, Settings

# Of each model what was computed of pictures, so that folds that share pictures compute each once.
_remembered: weakref.WeakKeyDictionary[tipi.Model, tipi.Examples] = weakref.WeakKeyDictionary()


def _list(X: Pictures) -> list[Any]:
    """Pictures as a list; a column of a table is one, too."""
    column = getattr(X, "to_numpy", None)
    array = column() if callable(column) else X
    if isinstance(array, np.ndarray) and array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "OUT":
        array = array[:, 0]
    pictures = list(array)
    if not pictures:
        raise ValueError("X: Found array with 0 sample(s): at least one picture is needed")
    return [str(one) if isinstance(one, np.str_) else one for one in pictures]


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Learns classes from a few pictures of each, on the features of a frozen CLIP.

    Parameters
    ----------
    model : str, path or tipi.Model
        A folder, or a model on the Hugging Face hub.
    method : str
        A name of ``tipi.methods()`` that needs no correction.
    settings : dict or None
        The method's settings by name; None takes the paper's.
    class_names : dict or None
        What a label is called in prompts: ``{0: "cat", 1: "dog"}``. None takes the labels as they are, which helps where they are
        words.
    templates : str, sequence of str or None
        Prompts with ``{}`` where the class's name goes. None takes "a photo of a {}.".
    how : dict or None
        How pictures are seen and weights searched, as ``tipi.Model.fit`` takes it.
    random_state : int, RandomState or None
        Seed of views and of training.
    device : str, int, tipi.Device or None
        Where a model that is named is loaded. A ``tipi.Model`` has its own.
    precision : {"f32", "f16", "int8"}
        How a model that is named is kept.
    progress : callable or None
        Called with a ``tipi.Progress`` where that has changed.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    adapter_ : tipi.Adapter
        What was learned. Pickles hold its bytes, and the model by its name.

    Notes
    -----
    X is a sequence of pictures: paths, files' bytes, PIL images and arrays of uint8 (height, width, 3), in any mixture; an array of
    paths; or an array of uint8 (n, height, width, 3).
    """

    def __init__(
        self,
        model: Any = "openai/clip-vit-base-patch32",
        *,
        method: str = "tip-adapter",
        settings: Settings | None = None,
        class_names: Mapping[Any, str] | None = None,
        templates: str | Sequence[str] | None = None,
        how: How | None = None,
        random_state: Any = 1,
        device: Any = None,
        precision: Literal["f32", "f16", "int8"] = "f32",
        progress: OnProgress | None = None,
    ) -> None:
        self.model = model
        self.method = method
        self.settings = settings
        self.class_names = class_names
        self.templates = templates
        self.how = how
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.progress = progress

    def _model(self) -> tipi.Model:
        if isinstance(self.model, tipi.Model):
            return self.model
        if isinstance(self.device, tipi.Device):
            return tipi.Model(self.model, device=self.device, precision=self.precision)
        return loaded(str(self.model), self.device, self.precision)

    def fit(self, X: Pictures, y: npt.ArrayLike) -> FewShotClassifier:
        """Learns from pictures X and their labels y [n]."""
        if y is None:
            raise ValueError("This FewShotClassifier estimator requires y to be passed, but the target y is None.")
        labels = column_or_1d(y, warn=True)
        pictures = _list(X)
        if len(pictures) != len(labels):
            raise ValueError(f"X has {len(pictures)} pictures and y {len(labels)} labels: inconsistent numbers of samples")
        check_classification_targets(labels)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has {len(classes)} class: at least two classes are needed to tell them apart")
        given = self.class_names or {}
        names = [str(given.get(label, label)) for label in classes.tolist()]
        if len(set(names)) < len(names):
            raise ValueError("class_names: two classes have the same name")
        model = self._model()
        # A copy has room of its own; what is computed of the pictures is shared with the other fits'.
        examples = _remembered.setdefault(model, tipi.Examples()).copy()
        for at in np.argsort(numbers, kind="stable").tolist():
            examples.add(names[int(numbers[at])], pictures[at], name=f"X[{at}]")
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            seed = check_random_state(seed).randint(2**31 - 1)
        self.adapter_ = model.fit(
            examples,
            self.method,
            settings=self.settings,
            templates=self.templates,
            how=self.how,
            seed=int(seed),
            progress=self.progress,
        )
        self.classes_ = classes
        return self

    def predict_proba(self, X: Pictures) -> npt.NDArray[np.float64]:
        """Probabilities [n, classes], in the order of ``classes_``; rows add up to 1."""
        check_is_fitted(self)
        return self.adapter_.predict(_list(X), progress=self.progress).probabilities

    def predict(self, X: Pictures) -> npt.NDArray[Any]:
        """The likeliest label of each picture, [n]."""
        likeliest = np.argmax(self.predict_proba(X), axis=1)
        chosen: npt.NDArray[Any] = self.classes_[likeliest]
        return chosen

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Pictures are no table of numbers, and what is wrong with one is found when it is read.
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags
