"""Few-shot CLIP on any GPU.

    import tipi

    model = tipi.Model("openai/clip-vit-base-patch32")
    adapter = model.fit({"cat": ["tom.jpg", "kitty.jpg"], "dog": ["rex.jpg", "fido.jpg"]})
    print(adapter.predict(["who.jpg"]).labels)

Everything that takes long lets other threads run, stops at Ctrl-C within one submission to the GPU, and tells how far it is to a
`progress` callback (`tipi.progress.Bar` draws a bar with tqdm). Failures are exceptions under `tipi.Error` (see `tipi.errors`).
Features are float32 and not normalised; probabilities are float64 from 0 to 1.

`tipi.sklearn.FewShotClassifier` is an estimator for scikit-learn. `tipi.ray` embeds and evaluates on many machines, `tipi.arrow` gives
tables of pictures their features.
"""

from tipi import errors
from tipi._native import (
    Adapter,
    Correction,
    Dataset,
    Device,
    DeviceReport,
    Evaluation,
    Examples,
    Gallery,
    Mean,
    Method,
    Model,
    Outcome,
    Prediction,
    Predictions,
    Progress,
    Report,
    Scored,
    Setting,
    __version__,
    devices,
    methods,
)
from tipi.errors import Error, Note

__all__ = [
    "Adapter",
    "Correction",
    "Dataset",
    "Device",
    "DeviceReport",
    "Error",
    "Evaluation",
    "Examples",
    "Gallery",
    "Mean",
    "Method",
    "Model",
    "Note",
    "Outcome",
    "Prediction",
    "Predictions",
    "Progress",
    "Report",
    "Scored",
    "Setting",
    "__version__",
    "devices",
    "errors",
    "methods",
]
