"""What people write, for mypy --strict: nothing here is run."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

import tipi
from tipi.progress import Bar
from tipi.sklearn import FewShotClassifier


def few_shot(folder: Path, paths: list[Path], pixels: npt.NDArray[np.uint8]) -> list[str | None]:
    model = tipi.Model("openai/clip-vit-base-patch32", device=tipi.Device(), precision="f16")
    features: npt.NDArray[np.float32] = model.encode_images([paths[0], b"bytes", str(paths[1]), pixels])
    texts = model.encode_texts(["a photo of a cat"])
    cosines: npt.NDArray[np.float32] = features @ texts.T
    assert cosines.ndim == 2
    examples = tipi.Examples.from_folder(folder).choose(16, seed=1)
    with Bar() as bar:
        adapter = model.fit(
            examples, "tip-adapter-f", settings={"epochs": 20}, how={"key_views": 4, "judge_by": "validation"}, progress=bar
        )
    if adapter.report is not None and adapter.report.validation_accuracy is not None:
        print(f"{adapter.report.validation_accuracy:.1%}")
    adapter.save(folder / "adapter.safetensors")
    answers = adapter.asking_for(0.9).covering(0.9).predict(paths, errors="keep")
    for answer, wrong in zip(answers, answers.errors, strict=True):
        print(answer.best.name, answer.best.probability, [one.name for one in answer.set or []], wrong)
    rows, near = tipi.Gallery(features).nearest(texts, most=5)
    print(rows[0].tolist(), near.max())
    own = model.zero_shot({"cat": ["a cat", "a kitten"], "dog": ["a dog"]})
    return model.zero_shot(["cat", "dog"], "an icon of {}").predict(paths).labels + own.predict(paths).labels


def told(progress: tipi.Progress) -> None:
    print(progress.what, progress.done, progress.total)


def caught(model: tipi.Model) -> Path | None:
    try:
        model.encode_images(["a.png"], progress=told)
    except tipi.errors.ImageError as error:
        return error.path
    return None


def estimated(paths: list[str], labels: list[str]) -> npt.NDArray[np.float64]:
    return FewShotClassifier(method="gda", settings={"alpha": 1.0}).fit(paths, labels).predict_proba(paths)
