"""Writes small MATLAB files, as SciPy writes them.

    pip install scipy
    python tests/reference/mat_files.py tests/fixtures/mat

`types.mat` and `types_compressed.mat` have a variable of every kind that src/data/dataset/mat.rs reads, and some that it
refuses; its tests know what is in them. The others are the lists of OxfordFlowers and StanfordCars for the miniatures of
tests/miniatures: of flowers 4 classes, 40 pictures, whose label is picture number % 4 + 1; of cars 4 classes, 32 pictures
to learn from and 16 to test on, whose label is picture number % 4 + 1 too.
"""

import pathlib
import sys

import numpy as np
from scipy.io import savemat
from scipy.sparse import csc_matrix


def cells(values):
    row = np.empty((1, len(values)), dtype=object)
    row[0, :] = values
    return row


def structs(fields, rows):
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for i, row in enumerate(rows):
        array[0, i] = row
    return array


def annotations(count):
    # The field names and order of the set's own files; boxes are stored as whatever is smallest, as MATLAB does.
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    rows = [(np.uint8(1), np.uint8(1), np.uint8(8), np.uint8(8), np.uint8(n % 4 + 1), f"{n:05}.jpg") for n in range(1, count + 1)]
    return structs(fields, rows)


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    signed, unsigned = [1, -2, 100], [1, 2, 100]
    types = {
        **{t: np.array([signed], dtype=t) for t in ("int8", "int16", "int32", "int64", "single", "double")},
        **{t: np.array([unsigned], dtype=t) for t in ("uint8", "uint16", "uint32", "uint64")},
        "half": 0.5,
        "matrix": np.arange(6.0).reshape(2, 3),
        "empty": np.zeros((0, 0)),
        "text": "Größe ≤ 3",
        "rows": np.array(["ab", "cd"]),
        "names": cells(["AM General Hummer SUV 2000", "x", ""]),
        "people": structs(["name", "legs", "parts"], [("ant", 6, cells(["a", 7])), ("bee", 6.0, cells([]))]),
        "complex": np.array([[1 + 2j]]),
        "sparse": csc_matrix(np.eye(3)),
        "last": np.arange(40.0),
    }
    savemat(out / "types.mat", types)
    savemat(out / "types_compressed.mat", types, do_compression=True)
    labels = np.array([[n % 4 + 1 for n in range(1, 41)]], dtype=np.uint8)
    savemat(out / "imagelabels.mat", {"labels": labels}, do_compression=True)
    cars = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Audi R8 Coupe 2012", "BMW Z4 Convertible 2012"]
    savemat(out / "cars_meta.mat", {"class_names": cells(cars)}, do_compression=True)
    savemat(out / "cars_train_annos.mat", {"annotations": annotations(32)}, do_compression=True)
    savemat(out / "cars_test_annos_withlabels.mat", {"annotations": annotations(16)}, do_compression=True)
    # The header tells the time; files made again shall be the same.
    for file in out.glob("*.mat"):
        data = bytearray(file.read_bytes())
        data[:116] = b"MATLAB 5.0 MAT-file".ljust(116)
        file.write_bytes(data)


main()
