"""The guide's function for Spark, run in Spark's local mode."""

import re
import shutil
import sys

import numpy as np
import pytest

from conftest import PICTURES, ROOT

pytest.importorskip("pyspark", reason="SPARK IS NOT TESTED: it is not installed (pip install pyspark)")
if shutil.which("java") is None:
    pytest.skip("SPARK IS NOT TESTED: there is no java (apt-get install default-jre-headless)", allow_module_level=True)


def test_the_guides_function_runs(model, tmp_path, monkeypatch):
    page = (ROOT / "docs/src/many.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python,spark\n(.*?)```", page, re.S)
    for name in ("weights", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    names: dict[str, object] = {}
    try:
        # Workers are in folders of their own.
        code = code.replace('"weights/picto"', repr(str(ROOT / "weights/picto")))
        exec(compile(code.replace("appName(", 'master("local[2]").appName('), "many.md", "exec"), names)
        rows = names["spark"].read.parquet(str(tmp_path / "features-of-spark")).collect()
    finally:
        if "spark" in names:
            names["spark"].stop()
    paths = sorted((PICTURES / "bell").glob("*.png"))
    assert sorted(row.path.rsplit("/", 1)[1] for row in rows) == [path.name for path in paths]
    found = {row.path.rsplit("/", 1)[1]: row.features for row in rows}
    wanted = model.encode_images(paths)
    assert np.array_equal(np.array([found[path.name] for path in paths], np.float32), wanted)
    assert {row.model for row in rows} == {model.digest()} and {row.error for row in rows} == {None}
