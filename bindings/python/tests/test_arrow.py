"""Tables of pictures get their features, as Ray and Spark hand them over."""

import hashlib
import pickle
import re

import numpy as np
import pytest

import tipi
from conftest import ROOT

pa = pytest.importorskip("pyarrow", reason="TABLES ARE NOT TESTED: pyarrow is not installed (pip install pyarrow)")

from tipi.arrow import Embedder  # noqa: E402


@pytest.fixture(scope="module")
def embed():
    return Embedder(ROOT / "weights/picto")


@pytest.fixture(scope="module")
def table(paths):
    contents = [path.read_bytes() for path in paths]
    return pa.table({"path": [str(path) for path in paths], "label": [path.parent.name for path in paths], "bytes": contents})


def rows(column):
    return np.array(column.to_pylist(), np.float32)


def test_a_table_has_the_models_features(embed, table, model, paths):
    done = embed(table)
    assert done.column_names == ["path", "label", "picture", "features", "model", "precision", "error"]
    assert np.array_equal(rows(done["features"]), model.encode_images(paths))
    assert done["features"].type == pa.list_(pa.float32(), model.width)
    assert done["picture"].to_pylist() == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert set(done["model"].to_pylist()) == {model.digest()} and set(done["precision"].to_pylist()) == {"f32"}
    assert done["error"].null_count == len(paths) and done["path"] == table["path"]
    # Chunks, batches, structs, none at all, and an embedder that was pickled.
    assert embed(pa.concat_tables([table[:3], table[3:]])).equals(done)
    assert pickle.loads(pickle.dumps(embed))(table.to_batches()[0]).equals(done)
    structs = pa.array([{"bytes": one, "path": "x"} for one in table["bytes"].to_pylist()])
    of_hub = Embedder(ROOT / "weights/picto", column="image", name="label")(pa.table({"label": table["label"], "image": structs}))
    assert of_hub["features"].equals(done["features"])
    assert embed(table[:0]).schema.equals(done.schema)


def test_a_broken_picture_leaves_the_others_alone(embed, table, model, paths):
    contents = table["bytes"].to_pylist()
    contents[1], contents[4] = contents[1][:90], None
    broken = table.set_column(2, "bytes", pa.array(contents, pa.binary()))
    done = embed(broken)
    errors = done["error"].to_pylist()
    assert [row for row, error in enumerate(errors) if error] == [1, 4] == [row for row, one in enumerate(done["features"].to_pylist()) if one is None]
    assert errors[1].startswith(f"{paths[1]}: cannot decode picture") and errors[4] == "there is no picture"
    assert done["picture"].to_pylist()[4] is None
    sound = [row for row in range(len(paths)) if row not in (1, 4)]
    assert np.array_equal(rows(done["features"].drop_null()), model.encode_images(paths)[sound])
    assert embed(broken[1:2])["features"].null_count == 1
    strict = Embedder(ROOT / "weights/picto", strict=True)
    with pytest.raises(tipi.errors.ImageError, match=re.escape(str(paths[1]))):
        strict(broken)
    with pytest.raises(tipi.errors.InvalidError, match=re.escape(f"{paths[4]}: there is no picture in the column 'bytes'")):
        strict(broken[4:5])


def test_what_is_wrong_with_a_table_is_named(embed, table):
    for call, says in [
        (lambda: embed(table.rename_columns(["path", "label", "png"])), "column: there is no column 'bytes'; there are path, label, png"),
        (lambda: Embedder("x", name="title")(table), "name: there is no column 'title'"),
        (lambda: embed(table.rename_columns(["path", "model", "bytes"])), "has a column 'model' already: rename it before"),
        (lambda: Embedder("x", column="label")(table), "column: 'label' has string: expected files' contents as binary"),
        (lambda: Embedder("no/model/there")(table), "no/model/there"),
        (lambda: Embedder(ROOT / "weights/picto", precision="f8")(table), "precision: there is no 'f8'"),
    ]:
        with pytest.raises(tipi.errors.InvalidError, match=re.escape(says)):
            call()
    with pytest.raises(tipi.errors.DeviceNotFoundError, match="no such device"):
        Embedder(ROOT / "weights/picto", device="no such device")(table)
