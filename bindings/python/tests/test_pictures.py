"""Pictures in every form give the same features, and what is no picture is an error that names it."""

import io

import numpy as np
import pytest
from PIL import Image

import tipi
from conftest import ROOT


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_all_forms_of_a_picture_give_the_same_bits(model, paths):
    path = paths[0]
    data, array = path.read_bytes(), pixels(path)
    rgba = np.dstack([array, np.full(array.shape[:2], 7, np.uint8)])
    wide = np.zeros((array.shape[0] + 3, array.shape[1] + 5, 3), np.uint8)
    wide[1:-2, 2:-3] = array
    forms = [
        path, str(path), np.str_(path), data, bytearray(data), memoryview(data), array, rgba, wide[1:-2, 2:-3],
        array[::-1].copy()[::-1], Image.open(path), Image.fromarray(array), Image.open(io.BytesIO(data)),
    ]  # fmt: skip
    features = model.encode_images(forms)
    assert features.shape == (len(forms), model.width) and features.dtype == np.float32
    assert features.flags.c_contiguous and features.flags.writeable
    assert np.ptp(features, axis=0).max() == 0, np.ptp(features, axis=1)
    other = model.encode_images([paths[1]])
    assert not np.array_equal(other[0], features[0])


def test_grey_and_stacks_are_taken(model):
    grey = np.random.default_rng(1).integers(0, 256, (9, 13), np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    rows = model.encode_images([grey, grey[..., None], colour])
    assert np.array_equal(rows[0], rows[2]) and np.array_equal(rows[1], rows[2])
    stack = np.random.default_rng(2).integers(0, 256, (3, 9, 13, 3), np.uint8)
    assert np.array_equal(model.encode_images(stack), model.encode_images(list(stack)))


@pytest.mark.parametrize(
    "name", ["grey-8.png", "rgba-8.png", "palette-8.bmp", "orientation-6.jpg", "cmyk.jpg", "lossy-35x18.webp", "orientation-8.webp"]
)
def test_an_image_of_pils_is_taken_as_its_file_is(model, name):
    path = ROOT / "tests/pictures" / name
    by_file, by_pil = model.encode_images([path, Image.open(path)])
    # PIL brings a decoder of its own, whose version may round otherwise.
    assert np.abs(by_file - by_pil).max() <= 0.02 * np.abs(by_file).max()


def test_no_pictures_have_no_features(model, adapter):
    assert model.encode_images([]).shape == (0, model.width)
    assert model.encode_texts([]).shape == (0, model.width)
    assert len(adapter.predict([])) == 0 and adapter.predict([]).probabilities.shape == (0, 4)


@pytest.mark.parametrize(
    ("bad", "kind", "says"),
    [
        (np.zeros((4, 4, 3), np.float32), TypeError, "images[1]: an array of float32: expected uint8"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "images[1]: an array of int64"),
        (np.zeros((3, 8, 9), np.uint8), ValueError, "images[1]: an array of shape (3, 8, 9): expected (height, width, 3)"),
        (np.zeros((4,), np.uint8), ValueError, "images[1]: an array of shape (4,)"),
        (np.zeros((), np.uint8), ValueError, "images[1]: an array of shape ()"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "images[1]"),
        (np.zeros((4, 0, 3), np.uint8), ValueError, "images[1]"),
        (np.zeros((4, 8, 3), np.uint8)[:, ::2], ValueError, "images[1]: the array's rows are not contiguous"),
        (np.zeros((3, 4, 4), np.uint8).transpose(1, 2, 0), ValueError, "images[1]: the array's rows are not contiguous"),
        (np.zeros((4, 4, 3), np.uint8, order="F"), ValueError, "images[1]: the array's rows are not contiguous"),
        (np.zeros((4, 4, 3), np.uint8)[:, ::-1], ValueError, "images[1]: the array's rows are not contiguous"),
        (np.zeros((4, 4), object), TypeError, "images[1]: an array of object"),
        (b"", tipi.errors.ImageError, "images[1]"),
        (b"no picture at all", tipi.errors.ImageError, "images[1]"),
        (7, TypeError, "images[1]: expected a path, a file's bytes, a PIL image or an array of uint8, not int"),
        (None, TypeError, "images[1]"),
        (["nested.png"], TypeError, "images[1]"),
        ("no/such.png", FileNotFoundError, "no/such.png"),
        ("tests", tipi.errors.IoError, "tests"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_an_error_that_names_it(model, adapter, paths, bad, kind, says, monkeypatch):
    monkeypatch.chdir(ROOT)
    for call in (model.encode_images, adapter.predict):
        with pytest.raises(kind) as raised:
            call([paths[0], bad])
        assert says in str(raised.value)


def test_truncated_files_in_bytes_are_named(model, paths):
    whole = paths[0].read_bytes()
    for cut in (1, 8, 20, len(whole) // 2, len(whole) - 20):
        with pytest.raises(tipi.errors.ImageError) as raised:
            model.encode_images([whole, whole[:cut]])
        assert str(raised.value.path) == "images[1]" and "cannot decode picture" in str(raised.value)
        if cut == len(whole) // 2:
            # PIL finds it when the pixels are asked for.
            with pytest.raises(tipi.errors.ImageError, match=r"images\[0\].*PIL"):
                model.encode_images([Image.open(io.BytesIO(whole[:cut]))])


@pytest.mark.parametrize("one", ["a.png", b"bytes", np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), Image.new("RGB", (2, 2))])
def test_one_picture_is_no_list(model, one):
    with pytest.raises(TypeError, match=r"images: expected a list of pictures: write \[picture\]"):
        model.encode_images(one)
    with pytest.raises(TypeError, match="images: expected a list of pictures, not int"):
        model.encode_images(5)
    with pytest.raises(ValueError, match="images: an array of shape"):
        model.encode_images(np.zeros((1, 1, 4, 4, 3), np.uint8))


def test_an_array_is_not_kept_after_the_call(model):
    array = np.random.default_rng(3).integers(0, 256, (9, 13, 3), np.uint8)
    examples = tipi.Examples()
    examples.add("a", array)
    before = array.copy()
    array[:] = 0
    examples.add("b", before)
    adapter = model.fit(examples, templates="{}", how={"key_views": 0, "grid": "standard"})
    # Both examples are the same picture: the first was copied before it was changed.
    scores = adapter.predict([before, array]).scores
    assert not np.array_equal(scores[0], scores[1])


def test_a_generator_and_what_it_raises(model, paths):
    assert len(model.encode_images(path for path in paths[:2])) == 2

    def breaks():
        yield paths[0]
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        model.encode_images(breaks())
