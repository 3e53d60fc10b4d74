"""The data sets that are drawn: what an image is, what a seed decides, and the paper's gate for them."""

import itertools

import numpy as np
import pytest

from aejax.data import available, load, open_split, prepare
from aejax.data.sets import convex, curves, rectangles
from aejax.data.sets.generated import BUILDERS
from aejax.data.sets.recipe import drawn
from aejax.errors import UsageError

RECIPES = {
    "rectangles": BUILDERS["rectangles"].recipe,
    "convex": BUILDERS["convex"].recipe,
    "curves": BUILDERS["curves"].recipe,
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The three data sets with a few images in each split, in a data dir of their own."""
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for builder in (BUILDERS["rectangles"], BUILDERS["convex"], BUILDERS["curves"]):
        sizes = {split: 10 + i for i, split in enumerate(builder.recipe.sizes)}
        monkeypatch.setattr(builder, "recipe", builder.recipe._replace(sizes=sizes))


def whole(recipe, seed, split, threads=None):
    """A split as arrays: images [n, 28, 28] and labels [n]."""
    images, labels = zip(*drawn(recipe, seed, split, threads))
    return np.stack(images), np.array(labels)


# What an image is


def test_rectangles_are_outlines_and_the_label_says_which_side_is_longer():
    image, label = rectangles.rectangles(np.random.default_rng(0), 3000)
    assert image.dtype == np.uint8
    assert set(np.unique(image)) == {0, 255}
    sides, corners = [], []
    for one, tall in zip(image > 0, label):
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        outline = np.zeros((28, 28), bool)
        outline[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        outline[rows[0] + 1 : rows[-1], columns[0] + 1 : columns[-1]] = False
        np.testing.assert_array_equal(one, outline)
        height, width = len(rows), len(columns)
        assert (rectangles.CLASSES[tall] == "tall") == (height > width)
        sides.append((height, width))
        corners.append((rows[0], columns[0]))
    pairs = {(h, w) for h, w in itertools.product(range(5, 29), repeat=2) if abs(h - w) >= 3}
    counts = [sides.count(pair) for pair in pairs]
    assert sum(counts) == 3000  # no other sides
    assert np.mean(np.square(np.array(counts) - 3000 / len(pairs))) < 1.3 * 3000 / len(pairs)  # Poisson's variance
    # Uniform where it fits: the mean of the corner is half of the room that is left.
    room = 28 - np.array(sides)
    assert abs((np.array(corners) - room / 2).mean()) < 5 * np.sqrt(((room + 1) ** 2 - 1).mean() / 12 / 6000)


def by_hand(image):
    """The lattice points of the hull of the pixels that are on, by whole numbers: left of every edge of the hull."""
    points = [tuple(map(int, point)) for point in np.argwhere(image)]

    def cross(a, b, c):
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    def chain(ordered):  # Andrew 1979
        kept = []
        for point in ordered:
            while len(kept) > 1 and cross(kept[-2], kept[-1], point) <= 0:
                kept.pop()
            kept.append(point)
        return kept[:-1]

    corners = chain(sorted(points)) + chain(sorted(points, reverse=True))
    every = np.indices(image.shape)
    inside = [cross(a, b, every) >= 0 for a, b in zip(corners, corners[1:] + corners[:1])]
    return np.all(inside, axis=0)


@pytest.mark.parametrize("density", [0.01, 0.03, 0.3])
def test_the_hull_is_that_of_whole_numbers(density):
    image = np.random.default_rng(1).random((40, 13, 17)) < density
    image = image[[np.linalg.matrix_rank(np.argwhere(one)[1:] - np.argwhere(one)[:1]) == 2 for one in image]]
    assert len(image) > 3
    np.testing.assert_array_equal(convex.hull(image), [by_hand(one) for one in image])


def test_convex_regions_are_their_hull_and_the_others_are_not():
    image, label = convex.convex(np.random.default_rng(0), 1000)
    assert image.dtype == np.uint8
    assert set(np.unique(image)) == {0, 255}
    on = image > 0
    np.testing.assert_array_equal((convex.hull(on) == on).all((1, 2)), [convex.CLASSES[k] == "convex" for k in label])
    for one, k in itertools.islice(zip(on, label), 60):
        assert (by_hand(one) == one).all() == (convex.CLASSES[k] == "convex")
    area = on.sum((1, 2))
    assert area[label == 1].min() >= 19
    assert area[label == 0].min() >= 10
    assert abs(label.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(label))
    assert 0.85 < area[label == 1].mean() / area[label == 0].mean() < 1.05  # 0.93 ± 0.03: about as large


def test_curves_stay_within_and_follow_their_control_points():
    rng = np.random.default_rng(3)
    image, label = curves.curves(rng, 200)
    assert label is None
    assert image.dtype == np.uint8
    assert image[:, [0, -1]].max() < 64
    assert image[:, :, [0, -1]].max() < 64
    points = np.random.default_rng(3).uniform(3, 25, (200, 3, 2)).astype(np.float32)
    t = np.linspace(0, 1, 300)[:, None]
    for one, (a, b, c) in zip(image, points):
        line = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        pixel = np.floor(line).astype(int)
        assert one[pixel[:, 0], pixel[:, 1]].min() > 90  # ink all along
        centers = np.argwhere(one > 0) + 0.5
        far = np.sqrt(((centers[:, None] - line[None]) ** 2).sum(-1)).min(1).max()
        assert far < 1.5 + 3 * np.sqrt(2)  # and the blur's three pixels either way


def test_curves_have_nearly_the_residual_of_the_papers_principal_components():
    train, _ = curves.curves(np.random.default_rng(0), 2000)
    x = train.reshape(len(train), -1) / 255
    values = np.linalg.eigvalsh(np.cov(x.T))
    # Σ_{i>k} λ_i: 5.56 and 9.83 over 20 000 curves; the paper's curves have 5.90.
    np.testing.assert_allclose([values[:-18].sum(), values[:-6].sum()], [5.56, 9.83], rtol=0.03)


# What a seed decides


@pytest.mark.parametrize("name", RECIPES)
def test_a_seed_gives_the_same_bits_on_any_number_of_threads(name):
    recipe = RECIPES[name]._replace(sizes={"train": 580, "test": 60})
    splits = {
        (seed, split, threads): whole(recipe, seed, split, threads)
        for seed, split, threads in [(0, "train", 1), (0, "train", 2), (1, "train", 2), (0, "test", 1), (1, "test", 2)]
    }
    for a, b in (((0, "train", 1), (0, "train", 2)), ((0, "test", 1), (1, "test", 2))):
        for ours, theirs in zip(splits[a], splits[b]):
            np.testing.assert_array_equal(ours, theirs)
    for a, b in (((0, "train", 2), (1, "train", 2)), ((0, "train", 2), (0, "test", 1))):
        assert (splits[a][0][:60] != splits[b][0][:60]).any((1, 2)).mean() > 0.5
    first = splits[0, "train", 2][0]
    assert (first[:80] != first[500:]).any((1, 2)).mean() > 0.5  # no stretch repeats another


# As data sets


@pytest.mark.parametrize("name", RECIPES)
def test_they_are_data_sets_by_name_and_seed(small, name):
    sizes = {"rectangles": BUILDERS["rectangles"], "convex": BUILDERS["convex"], "curves": BUILDERS["curves"]}[
        name
    ].recipe.sizes
    recipe = RECIPES[name]._replace(sizes=sizes)
    parts = load(f"{name}/3", tuple(sizes))
    for part, split in zip(parts, sizes):
        image, label = whole(recipe, 3, split)
        assert (part.shape, part.size, part.classes) == ((28, 28, 1), sizes[split], recipe.classes)
        assert part.arrays["x"].dtype == np.uint8
        np.testing.assert_array_equal(part.arrays["x"][..., 0], image)
        assert ("label" in part.arrays) == (recipe.classes is not None)
        if recipe.classes:
            np.testing.assert_array_equal(part.arrays["label"], label)
    assert open_split(f"{name}/3:train[:90%]").size == 9
    assert [data.size for data in prepare(name)] == list(sizes.values())
    train, test = load(name)
    assert train.fingerprint == load(f"{name}/0")[0].fingerprint != parts[0].fingerprint
    assert test.fingerprint == parts[-1].fingerprint


def test_each_is_listed_before_it_is_prepared_and_then_by_seed(small):
    def listed():
        return [(line.name, line.prepared) for line in available() if line.name.split("/")[0] in RECIPES]

    assert listed() == [("rectangles", False), ("convex", False), ("curves", False)]
    assert {line.name: line.sizes for line in available()}["convex"] == {
        "train": 6000,
        "validation": 2000,
        "test": 50000,
    }
    prepare("convex/2")
    prepare("convex")
    assert listed() == [("rectangles", False), ("convex/0", True), ("convex/2", True), ("curves", False)]


def test_a_seed_that_is_not_there_is_refused_in_one_line(small):
    with pytest.raises(UsageError, match=r"rectangles/12.*did you mean rectangles/") as caught:
        load("rectangles/12")
    assert "\n" not in str(caught.value)


# The paper's gate: before a net is judged on drawn data, a support vector machine must err on it as often as in the paper


def svm_error(train, test, c, gamma):
    """Test error in per cent of a support vector machine with a Gaussian kernel."""
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.svm import SVC

    x, test_x = (image.reshape(len(image), -1) / np.float32(255) for image in (train[0], test[0]))
    machine = SVC(C=c, kernel="precomputed").fit(rbf_kernel(x, gamma=gamma), train[1])
    support, weight = x[machine.support_], machine.dual_coef_[0]
    stretches = np.array_split(test_x, max(1, len(test_x) // 2000))
    decision = [rbf_kernel(stretch, support, gamma=gamma) @ weight + machine.intercept_ for stretch in stretches]
    return 100 * float(np.mean((np.concatenate(decision) > 0) != test[1]))


def gate(recipe, seeds, c, gamma):
    """Test errors by seed, on the first 20 000 test images.

    Trained on training and validation images together, C and γ being chosen before. Training on the training images alone
    misses the gate, by a mean of 2.87 % (rectangles) and 20.35 % (convex): this is a gate for this use of the data.
    """
    test = whole(recipe._replace(sizes={**recipe.sizes, "test": 20_000}), 0, "test")
    errors = []
    for seed in seeds:
        parts = [whole(recipe, seed, split) for split in ("train", "validation")]
        errors.append(svm_error([np.concatenate(pair) for pair in zip(*parts)], test, c, gamma))
    return errors


@pytest.mark.slow
def test_a_support_vector_machine_errs_on_rectangles_as_in_the_paper():
    errors = gate(BUILDERS["rectangles"].recipe, range(5), 10, 0.05)
    # One training set has a standard deviation of 0.4; the mean of five, 0.2.
    assert abs(np.mean(errors) - 2.15) < 0.3, errors


@pytest.mark.slow
def test_a_support_vector_machine_errs_on_convex_as_in_the_paper():
    errors = gate(BUILDERS["convex"].recipe, range(3), 10, 0.02)
    assert abs(np.mean(errors) - 19.13) < 1, errors
