"""What the displays draw, against computations from outside."""

import re
import subprocess
import sys
from datetime import datetime
from functools import partial
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from matplotlib.colors import Normalize, to_hex, to_rgb
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.utils.fixes import parse_version

import skvae
from skvae import (
    CorrelationDisplay,
    LatentDisplay,
    LossCurveDisplay,
    ManifoldDisplay,
    MarginalsDisplay,
    ReconstructionDisplay,
    SampleDisplay,
    VAETransformer,
)
from skvae.networks import Conv

tiny = partial(VAETransformer, max_iter=4, hidden_layer_sizes=(16,), random_state=0)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted(digits):
    X = digits[0]
    return tiny(3).fit(X[:150], X_val=X[150:])


@pytest.fixture(scope="module")
def plane(digits):
    return tiny(2).fit(digits[0])


@pytest.fixture(scope="module")
def conditional(digits):
    X, y = digits
    return tiny(2, conditional=True).fit(X, np.array(["even", "odd"])[y % 2])


@pytest.fixture(scope="module")
def pipeline(digits):
    return make_pipeline(MinMaxScaler((100, 200)), tiny(3)).fit(digits[0])


@pytest.fixture(scope="module")
def table():
    """Numbers, whole numbers, levels, booleans, and holes in two columns."""
    rng = np.random.default_rng(0)
    n = 300
    size = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "size": size,
            "count": rng.poisson(3, n),
            "kind": np.array(["a", "b", "c"])[np.digitize(size + rng.normal(size=n), [-0.5, 0.5])],
            "town": rng.choice([f"t{i:02}" for i in range(15)], n),
            "flag": rng.random(n) < 0.3,
        }
    )
    frame.loc[::7, "size"] = np.nan
    frame.loc[::5, "kind"] = None
    return frame


# -- what all have in common -------------------------------------------------------------------

FROM_ESTIMATOR = {
    "loss": lambda model, X, **kwargs: LossCurveDisplay.from_estimator(model, **kwargs),
    "latent": LatentDisplay.from_estimator,
    "reconstruction": ReconstructionDisplay.from_estimator,
    "sample": lambda model, X, **kwargs: SampleDisplay.from_estimator(model, n_samples=4, **kwargs),
    "manifold": partial(ManifoldDisplay.from_estimator, n=3),
    "marginals": partial(MarginalsDisplay.from_estimator, columns=[20, 21, 28]),
    "correlation": partial(CorrelationDisplay.from_estimator, columns=[20, 21, 28]),
}
every_display = pytest.mark.parametrize("make", FROM_ESTIMATOR.values(), ids=FROM_ESTIMATOR)


def axes_of(display):
    return list(display.axes_.ravel()) if hasattr(display, "axes_") else [display.ax_]


@every_display
def test_a_new_figure_or_the_axes_that_are_given(make, fitted, digits):
    display = make(fitted, digits[0])
    assert all(ax.figure is display.figure_ for ax in axes_of(display))
    assert display.ax_ in display.figure_.axes

    figure, axes = plt.subplots(1, 2)
    assert display.plot(ax=axes[1]) is display
    assert display.figure_ is figure
    assert display.ax_ is axes[1]
    if hasattr(display, "axes_"):  # draw again into the panels
        panels, before = display.axes_, len(figure.axes)
        with pytest.raises(ValueError, match="cannot be divided"):
            display.plot(ax=axes[1])
        display.plot(ax=list(panels))
        assert display.ax_ is None
        assert list(display.axes_) == list(panels)
        assert len(figure.axes) >= before
        with pytest.raises(ValueError, match=r"Got ax with 2 axes for 3 panels"):
            display.plot(ax=axes)


@every_display
def test_a_pipeline_shows_what_came_in(make, pipeline, digits):
    display = make(pipeline, digits[0])
    if hasattr(display, "images"):
        assert np.abs(display.images).max() < 20  # pixels of 0 to 1, not of 100 to 200


@every_display
def test_not_fitted(make, digits):
    with pytest.raises(NotFittedError):
        make(tiny(3), digits[0])
    with pytest.raises(NotFittedError):
        make(make_pipeline(MinMaxScaler(), tiny(3)), digits[0])


@every_display
def test_no_vae(make, digits):
    X, y = digits
    for other in (PCA(2).fit(X), make_pipeline(PCA(2), LogisticRegression()).fit(X, y)):
        with pytest.raises(TypeError, match=r"expected a VAETransformer, or a Pipeline whose last step"):
            make(other, X)


@every_display
def test_says_what_to_install(make, fitted, digits, monkeypatch):
    display = make(fitted, digits[0])
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for draw in (partial(make, fitted, digits[0]), display.plot):
        with pytest.raises(ImportError, match=r"Display\.\w+ needs matplotlib.*skvae\[plot\]"):
            draw()


def test_what_takes_long_is_imported_at_use():
    code = "import sys, skvae; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    slow = {
        "matplotlib",
        "sklearn.impute",
        "sklearn.neighbors",
        "sklearn.pipeline",
        "torch._dynamo",
    }
    assert not slow & set(modules)
    assert {name for name in skvae.__all__ if name.endswith("Display")} == set(skvae.plotting.__all__)


def test_steps_that_cannot_be_undone(digits):
    X = digits[0]
    model = make_pipeline(PCA(5), FunctionTransformer(check_inverse=False), tiny(2))
    model.set_params(functiontransformer="passthrough").fit(X)
    assert ReconstructionDisplay.from_estimator(model, X[:3]).images.shape == (3, 8, 8)

    class OneWay(PCA):
        inverse_transform = property()

    model = make_pipeline(OneWay(5), tiny(2)).fit(X)
    assert LatentDisplay.from_estimator(model, X).points.shape == (200, 2)
    with pytest.raises(TypeError, match="not every step has an inverse_transform"):
        SampleDisplay.from_estimator(model)


# -- training ----------------------------------------------------------------------------------


def test_loss_curves_are_the_history(fitted):
    display = LossCurveDisplay.from_estimator(fitted)
    assert [ax.get_title().split(":")[0][:4] for ax in display.axes_] == ["loss", "reco", "KL(q"]
    names = ["loss", "reconstruction", "kl"]
    shown = [key for name in names for key in (name, f"validation_{name}")]
    for line, key in zip(display.lines_, shown, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(line.get_ydata(), fitted.history_[key])
    assert {line.get_linestyle() for line in display.lines_[::2]} == {"-"}  # to be told apart in grey
    assert {line.get_linestyle() for line in display.lines_[1::2]} == {"--"}
    assert display.axes_[0].get_ylabel() == "nats per row"
    legend = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    assert legend[:2] == ["training", "validation"]


def test_loss_curves_of_a_history():
    history = {"loss": [3.0, 2.0, 1.5], "kl": [0.0, 1.0, 1.2], "beta": [0.1, 1.0, 1.0]}
    display = LossCurveDisplay.from_history(history, terms=["kl"], linewidth=3, color="red")
    (line,) = display.lines_
    assert (line.get_linewidth(), line.get_color()) == (3, "red")
    warm_up = display.axes_[0].lines[1]
    assert set(warm_up.get_xdata()) == {1}  # beta is full after the first epoch
    with pytest.raises(ValueError, match=r"Got terms=\('loss', 'reconstruction', 'kl'\); expected some of"):
        LossCurveDisplay.from_history(history)
    once = LossCurveDisplay.from_history({"kl": [1.0]}, terms=["kl"])
    assert once.lines_[0].get_marker() == "o"


# -- latents -----------------------------------------------------------------------------------


def test_two_components_are_drawn_as_they_are(plane, digits):
    X, y = digits
    display = LatentDisplay.from_estimator(plane, X, y)
    Z = plane.transform(X)
    np.testing.assert_array_equal(display.points, Z)
    for k, scatter in enumerate(display.scatters_):
        np.testing.assert_array_equal(scatter.get_offsets(), Z[y == k])
    assert [text.get_text() for text in display.legend_.get_texts()] == list("0123456789")
    for k, text in enumerate(display.ax_.texts):
        assert text.get_text() == str(k)
        np.testing.assert_allclose(text.get_position(), np.median(Z[y == k], axis=0))
    information = plane.kl_per_component_
    assert display.ax_.get_xlabel() == f"component 0 ({information[0]:.2f} nats)"
    assert display.ax_.get_ylabel() == f"component 1 ({information[1]:.2f} nats)"
    assert display.ellipses_ == []


def test_what_was_not_trained_is_not_told(digits):
    vae = VAETransformer(2, objective="autoencoder", max_iter=1, random_state=0).fit(digits[0])
    assert LatentDisplay.from_estimator(vae, digits[0]).ax_.get_xlabel() == "component 0"
    assert ManifoldDisplay.from_estimator(vae, n=2).ax_.get_ylabel() == "component 1"


def test_more_components_are_projected(fitted, digits):
    X = digits[0]
    display = LatentDisplay.from_estimator(fitted, X, uncertainty=True)
    mean, std = fitted.posterior(X)
    U, s, axes = np.linalg.svd(mean - mean.mean(axis=0), full_matrices=False)
    sign = np.sign((U[:, :2] * display.points).sum(axis=0))
    np.testing.assert_allclose(display.points, sign * U[:, :2] * s[:2], atol=1e-5)
    share = s**2 / np.sum(s**2)
    assert display.ax_.get_xlabel() == f"principal component 0 ({share[0]:.0%} of variance)"
    axes = axes[:2] * sign[:, None]
    covariance = np.stack([axes @ np.diag(sigma**2) @ axes.T for sigma in std])
    np.testing.assert_allclose(ellipse_covariance(display.ellipses_[0]), covariance, rtol=1e-4, atol=1e-7)


def ellipse_covariance(ellipses):
    """Return the covariance of which each ellipse, as it is drawn, is one standard deviation."""
    x, y = np.cos(np.linspace(0, 2 * np.pi, 720)), np.sin(np.linspace(0, 2 * np.pi, 720))
    widths, heights, angles = ellipses._widths, ellipses._heights, ellipses._angles  # half of each, radians
    out = []
    for a, b, angle in zip(widths, heights, angles, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        outline = turn @ np.stack((a * x, b * y))[:, :-1]
        out.append(2 * np.cov(outline, ddof=0))  # the mean square of a circle's x is half
    return np.array(out)


def test_uncertainty_of_chosen_components(fitted, digits):
    X = digits[0]
    y = X.mean(axis=1)
    display = LatentDisplay.from_estimator(fitted, X, y, components=(2, 0), uncertainty=True)
    mean, std = fitted.posterior(X)
    np.testing.assert_array_equal(display.points, mean[:, [2, 0]])
    covariance = np.zeros((len(X), 2, 2))
    covariance[:, 0, 0], covariance[:, 1, 1] = std[:, 2] ** 2, std[:, 0] ** 2
    np.testing.assert_allclose(ellipse_covariance(display.ellipses_[0]), covariance, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(display.scatters_[0].get_array(), y)
    assert display.colorbar_.mappable is display.scatters_[0]
    assert display.legend_ is None
    low, high = display.ax_.get_xlim()
    assert low < (mean - std)[:, 2].min()
    assert high > (mean + std)[:, 2].max()


def test_latents_without_a_model():
    Z = np.random.default_rng(0).normal(size=(30, 2))
    display = LatentDisplay.from_latents(Z, std=np.ones_like(Z), s=7, marker="v")
    assert display.scatters_[0].get_sizes() == [7]
    assert display.ax_.get_xlabel() == "component 0"
    round_ = np.tile(np.eye(2), (30, 1, 1))
    np.testing.assert_allclose(ellipse_covariance(display.ellipses_[0]), round_, atol=1e-12)
    line = LatentDisplay.from_latents(Z[:, :1], std=np.ones((30, 1)))
    np.testing.assert_array_equal(line.points[:, 0], Z[:, 0])
    assert (line.ax_.get_ylabel(), list(line.ax_.get_yticks())) == ("", [])
    same = LatentDisplay.from_latents(np.zeros((5, 4)))  # collapsed: no direction to project on
    np.testing.assert_array_equal(same.points, np.zeros((5, 2)))


@pytest.mark.parametrize(
    ("y", "names"),
    [
        ([2, 1, 1], ["1", "2"]),
        ([1.0, 3.0, np.nan], ["1", "3", "missing"]),
        ([1000002, 1000001, 1000001], ["1000001", "1000002"]),
        ([True, None, False], ["False", "True", "missing"]),
        (np.array(["2020-01-02", "2020-01-01", "2020-01-01"], "M8[D]"), ["2020-01-01", "2020-01-02"]),
        (["b", "a", "b"], ["a", "b"]),
        (["b", None, "b"], ["b", "missing"]),
        ([True, False, True], ["False", "True"]),
        (pd.Series(["u", "v", None], dtype="category"), ["u", "v", "missing"]),
        (pd.Series([1, None, 2], dtype="Int64"), ["1", "2", "missing"]),
        (pl.Series(["u", "v", None]), ["u", "v", "missing"]),
        (pl.Series([True, False, True]), ["False", "True"]),
        (pd.DataFrame({"y": [1, 2, 1]}).to_numpy(), ["1", "2"]),
    ],
)
def test_classes(y, names):
    display = LatentDisplay.from_latents(np.eye(3)[:, :2], y)
    assert [text.get_text() for text in display.legend_.get_texts()] == names
    assert sum(len(scatter.get_offsets()) for scatter in display.scatters_) == 3


@pytest.mark.parametrize("y", [np.arange(11), np.array([0.5, np.nan] + [1.0] * 9), np.arange(11.0)])
def test_values_have_a_colour_bar(y):
    display = LatentDisplay.from_latents(np.random.default_rng(0).normal(size=(11, 2)), y)
    assert display.scatters_[0].get_cmap().name == "viridis"
    assert display.colorbar_ is not None
    display.figure_.canvas.draw()


@pytest.mark.parametrize("n_classes", [10, 14])
def test_classes_are_told_apart(n_classes):
    Z = np.random.default_rng(0).normal(size=(40, 2))
    display = LatentDisplay.from_latents(Z, [f"c{i % n_classes:02}" for i in range(40)])
    marks = [
        (to_hex(scatter.get_facecolor()[0]), scatter.get_paths()[0].vertices.tobytes())
        for scatter in display.scatters_
    ]
    assert len(set(marks)) == n_classes
    assert len({shape for _, shape in marks}) == 10  # in grey too
    assert len(display.ax_.texts) == (n_classes if n_classes <= 10 else 0)
    assert display.plot(label_classes=False).ax_.texts[:] == []


@pytest.mark.parametrize("std", [None, np.ones((5, 2))], ids=["points", "ellipses"])
@pytest.mark.parametrize("y", [None, np.linspace(0, 1, 5)], ids=["none", "numbers"])
@pytest.mark.parametrize("c", ["red", np.arange(5.0)], ids=["colour", "values"])
def test_colours_of_ones_own(c, y, std):
    display = LatentDisplay.from_latents(np.arange(10.0).reshape(5, 2), y, std=std, c=c)
    display.figure_.canvas.draw()
    if isinstance(c, str):
        np.testing.assert_allclose(display.scatters_[0].get_facecolor()[0, :3], [1, 0, 0])
    else:
        np.testing.assert_array_equal(display.scatters_[0].get_array(), c)


def test_colours_of_ones_own_beside_classes():
    c = np.arange(5.0)
    display = LatentDisplay.from_latents(np.arange(10.0).reshape(5, 2), list("ababa"), c=c)
    np.testing.assert_array_equal(display.scatters_[0].get_array(), c[::2])
    red = LatentDisplay.from_latents(np.arange(10.0).reshape(5, 2), np.linspace(0, 1, 5), color="red")
    assert red.colorbar_ is None


def test_latents_that_do_not_fit(fitted, digits):
    X = digits[0]
    for components in [(0, 0), (0, 3), (0,), (0, 1, 2), 1, ("a", 1), (-1, 0)]:
        with pytest.raises(ValueError, match=r"Got components=.*expected two different ones of 0 to 2"):
            LatentDisplay.from_estimator(fitted, X, components=components)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LatentDisplay.from_estimator(fitted, X, [1, 2])
    with pytest.raises(ValueError, match=r"Got std of shape \(3, 1\); expected that of Z, \(3, 2\)"):
        LatentDisplay.from_latents(np.eye(3)[:, :2], std=np.ones((3, 1)))


# -- images ------------------------------------------------------------------------------------


def blocks(images, n_columns, gap=1):
    """Cut a mosaic's images out again: yields what stands at each place, row by row."""
    mosaic, (height, width) = images
    for top in range(0, mosaic.shape[0], height + gap):
        for left in list(range(0, mosaic.shape[1], width + gap))[:n_columns]:
            yield mosaic[top : top + height, left : left + width]


def test_reconstructions(fitted, digits):
    X = digits[0]
    display = ReconstructionDisplay.from_estimator(fitted, X, n_images=5, n_columns=3)
    again = fitted.inverse_transform(fitted.transform(X[:5]))
    np.testing.assert_array_equal(display.images, X[:5].reshape(5, 8, 8))
    np.testing.assert_allclose(display.reconstructions, again.reshape(5, 8, 8))
    mosaic = display.im_.get_array()
    assert mosaic.shape == (4 * 9 - 1, 3 * 9 - 1)
    shown = list(blocks((mosaic, (8, 8)), 3))
    np.testing.assert_array_equal(shown[:3], X[:3].reshape(3, 8, 8))
    np.testing.assert_allclose(shown[3:6], np.clip(again[:3], 0, 1).reshape(3, 8, 8))
    np.testing.assert_array_equal(shown[6:8], X[3:5].reshape(2, 8, 8))
    assert (shown[8] < 0).all()  # free, and so are the gaps
    assert (mosaic[8::9] < 0).all()
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["original", "decoded"] * 2
    np.testing.assert_array_equal(display.ax_.get_yticks(), [3.5, 12.5, 21.5, 30.5])
    assert to_hex(display.im_.get_cmap().get_under()) == "#ffffff"


def test_limits_and_colours_are_passed_on(digits):
    X = digits[0][:4]
    display = SampleDisplay.from_images(X, vmin=0, vmax=2, cmap="magma", alpha=0.5)
    assert display.im_.get_clim() == (0, 2)
    assert display.im_.get_cmap().name == "magma"
    assert display.im_.get_alpha() == 0.5
    mosaic = display.im_.get_array()
    np.testing.assert_array_equal(mosaic[:8, :8], X[0].reshape(8, 8))  # not cut to whole numbers
    far = np.r_[np.full(10, -50.0), np.linspace(0, 1, 980), np.full(10, 50.0)].reshape(10, 10, 10)
    low, high = SampleDisplay.from_images(far).im_.get_clim()
    assert -0.1 < low < high < 1.1  # a few far values do not make the rest grey
    constant = SampleDisplay.from_images(np.ones((2, 3, 3)))
    assert constant.im_.get_clim() == (1, 2)


def test_missing_pixels(fitted, digits):
    X = digits[0][:2].copy()
    X[0, 20] = np.nan
    display = ReconstructionDisplay.from_estimator(fitted, X)
    assert np.argwhere(display.im_.get_array().mask).tolist() == [[2, 4]]
    assert to_hex(display.im_.get_cmap().get_bad()) == "#d55e00"
    assert np.isfinite(display.reconstructions).all()


def test_colour_images():
    rows = np.random.default_rng(0).uniform(size=(4, 3 * 5 * 7))
    rows[0, 0] = np.nan
    display = SampleDisplay.from_images(rows, image_shape=(3, 5, 7), vmin=0, vmax=1)
    assert display.images.shape == (4, 5, 7, 3)
    mosaic = np.asarray(display.im_.get_array())
    assert mosaic.shape == (11, 15, 3)
    for k in range(3):  # one channel after the other
        np.testing.assert_allclose(mosaic[6:, 8:, k], rows[3].reshape(3, 5, 7)[k])
    np.testing.assert_allclose(mosaic[0, 0], to_rgb("#d55e00"))
    assert (mosaic[5] == 1).all()  # a white gap


@pytest.mark.parametrize(
    ("image_shape", "n_features", "message"),
    [
        (None, 30, r"Got rows of 30 features, which are no square image. Pass image_shape"),
        ((5, 5), 30, r"Got image_shape=\(5, 5\) for rows of 30 features"),
        ((2, 3, 5), 30, r"Got image_shape=\(2, 3, 5\); expected \(height, width\), or \(channels"),
        ((30,), 30, r"Got image_shape=\(30,\); expected"),
        (30, 30, r"Got image_shape=30; expected"),
        ((5.0, 6), 30, r"Got image_shape=\(5.0, 6\); expected"),
    ],
)
def test_shapes_that_do_not_fit(image_shape, n_features, message):
    with pytest.raises(ValueError, match=message):
        SampleDisplay.from_images(np.zeros((2, n_features)), image_shape=image_shape)


def test_images_that_do_not_fit():
    with pytest.raises(ValueError, match=r"Got images of shape \(9,\)"):
        SampleDisplay.from_images(np.zeros(9))
    with pytest.raises(ValueError, match=r"Got images of shape \(2, 3, 3\) and reconstructions of shape"):
        ReconstructionDisplay.from_images(np.zeros((2, 9)), np.zeros((3, 9)))


def test_the_shape_of_a_network(digits):
    conv = Conv((1, 16, 4), channels=(2,), hidden_layer_sizes=(4,))
    X = pd.DataFrame(digits[0][:20], columns=[f"p{i}" for i in range(64)])
    vae = VAETransformer(2, encoder=conv, decoder=conv, max_iter=1, random_state=0).fit(X)
    assert SampleDisplay.from_estimator(vae, n_samples=3).images.shape == (3, 16, 4)
    assert ReconstructionDisplay.from_estimator(vae, X[:2]).images.shape == (2, 16, 4)
    assert SampleDisplay.from_estimator(vae, n_samples=3, image_shape=(8, 8)).images.shape == (3, 8, 8)


def test_samples_are_those_of_the_model(fitted):
    display = SampleDisplay.from_estimator(fitted, n_samples=5, noise=True, random_state=3)
    rows = fitted.sample(5, noise=True, random_state=3)
    np.testing.assert_array_equal(display.images, rows.reshape(5, 8, 8))
    assert display.im_.get_array().shape == (2 * 9 - 1, 3 * 9 - 1)  # nearly a square
    assert display.plot(n_columns=5).im_.get_array().shape == (8, 44)


def test_samples_of_classes(conditional):
    display = SampleDisplay.from_estimator(conditional, n_samples=7, random_state=0)
    rows = conditional.sample(6, y=["even"] * 3 + ["odd"] * 3, noise=False, random_state=0)
    np.testing.assert_array_equal(display.images, rows.reshape(6, 8, 8))
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["even", "odd"]
    assert display.im_.get_array().shape == (17, 26)
    display = SampleDisplay.from_estimator(conditional, n_samples=4, y="odd", random_state=0)
    rows = conditional.sample(4, y="odd", noise=False, random_state=0)
    np.testing.assert_array_equal(display.images, rows.reshape(4, 8, 8))
    assert list(display.ax_.get_yticks()) == []


def test_a_walk_over_two_components(fitted, digits):
    X = digits[0]
    display = ManifoldDisplay.from_estimator(fitted, X, n=4, components=(2, 0))
    Z = fitted.transform(X)
    places = [0.125, 0.375, 0.625, 0.875]
    x, y = np.quantile(Z[:, 2], places), np.quantile(Z[:, 0], places)
    for i in range(4):
        for j in range(4):
            decoded = fitted.inverse_transform([[y[i], Z[:, 1].mean(), x[j]]]).reshape(8, 8)
            np.testing.assert_allclose(display.images[i, j], decoded, atol=1e-6)
    low, high = display.im_.get_clim()
    shown = list(blocks((display.im_.get_array(), (8, 8)), 4))
    np.testing.assert_allclose(shown[0], np.clip(display.images[3, 0], low, high))  # the top is high
    np.testing.assert_allclose(shown[-1], np.clip(display.images[0, 3], low, high))
    assert display.ax_.get_xlabel().startswith("component 2 (")
    assert display.ax_.get_ylabel().startswith("component 0 (")
    assert [float(t.get_text()) for t in display.ax_.get_xticklabels()] == pytest.approx(x, abs=0.051)
    assert [float(t.get_text()) for t in display.ax_.get_yticklabels()] == pytest.approx(y[::-1], abs=0.051)


def test_a_walk_without_rows(plane, digits):
    display = ManifoldDisplay.from_estimator(plane, n=3)
    Z = plane.transform(plane.sample(1000, random_state=0))
    np.testing.assert_allclose(display.x, np.quantile(Z[:, 0], [1 / 6, 0.5, 5 / 6]))
    with pytest.raises(ValueError, match=r"Got an estimator with n_components=1; expected 2 or more"):
        ManifoldDisplay.from_estimator(tiny(1).fit(digits[0]))
    with pytest.raises(ValueError, match=r"Got components=\(0, 2\)"):
        ManifoldDisplay.from_estimator(plane, components=(0, 2))


# -- tables ------------------------------------------------------------------------------------


def by_name(display):
    return {shown.name: shown for shown in display.marginals}


def test_marginals_of_numbers(table):
    synthetic = table.iloc[::-1][:100].assign(size=np.linspace(-40, 40, 100))
    display = MarginalsDisplay.from_tables(table, synthetic)
    size, count = by_name(display)["size"], by_name(display)["count"]
    real = table["size"].dropna().to_numpy()
    assert len(size.edges) == 1 + np.ceil(2 * len(real) ** (1 / 3))
    spread = np.diff(np.quantile(real, [0.005, 0.995]))[0]
    assert np.ptp(size.edges) == pytest.approx(2 * spread)  # half as much on both sides
    inside = np.histogram(real, size.edges)[0] / len(real)
    np.testing.assert_allclose(size.real, inside)
    assert size.synthetic.sum() == pytest.approx(1)
    assert size.synthetic[0] > 0.4  # far values are in the outer bins
    assert size.missing == (pytest.approx(43 / 300), 0)
    steps = display.axes_[0].patches[1].get_data()
    np.testing.assert_array_equal(steps.values, size.synthetic)
    np.testing.assert_array_equal(steps.edges, size.edges)
    np.testing.assert_array_equal(count.edges, np.arange(-0.5, table["count"].max() + 1))
    np.testing.assert_allclose(count.real, np.bincount(table["count"]) / 300)
    assert display.axes_[0].get_title() == "size (missing: 14%, 0%)"


def test_bins_of_whole_numbers_are_even():
    ages = np.random.default_rng(0).integers(17, 91, size=(4000, 1)).astype(float)
    (shown,) = MarginalsDisplay.from_tables(ages, ages).marginals
    widths = np.diff(shown.edges)
    assert set(widths) == {3.0}
    assert (shown.edges % 1 == 0.5).all()
    np.testing.assert_array_equal(shown.real, shown.synthetic)
    assert shown.real.sum() == pytest.approx(1)


@pytest.mark.parametrize("values", [np.full((5, 1), 3.0), np.full((5, 1), 3.5), np.full((5, 1), np.nan)])
def test_marginals_without_spread(values):
    (shown,) = MarginalsDisplay.from_tables(values, values).marginals
    assert shown.real.sum() == np.isfinite(values).any()


def test_marginals_of_levels(table):
    synthetic = table[:50].assign(kind=["a"] * 49 + ["new"], town=None)
    display = MarginalsDisplay.from_tables(table, synthetic, columns=["kind", 3])
    kind, town = display.marginals
    counts = table["kind"].value_counts(normalize=True)
    assert kind.levels == [*counts.index, "others"]
    np.testing.assert_allclose(kind.real, [*counts, 0])
    assert dict(zip(kind.levels, kind.synthetic, strict=True)) == {"a": 0.98, "b": 0, "c": 0, "others": 0.02}
    bars = [bar.get_width() for bar in display.axes_[0].patches]
    np.testing.assert_allclose(bars, [*kind.real, *kind.synthetic])
    counts = table["town"].value_counts(normalize=True)
    assert len(town.levels) == 10
    np.testing.assert_allclose(town.real, [*counts[:9], counts[9:].sum()])
    assert not town.synthetic.any()
    assert town.missing == (0, 1)
    labels = [text.get_text() for text in display.axes_[1].get_yticklabels()]
    assert labels == town.levels


def test_styles_of_marginals(table):
    display = MarginalsDisplay.from_tables(
        table,
        table,
        columns=["size"],
        real_kw={"color": "red", "label": "seen"},
        synthetic_kw={"linewidth": 4},
    )
    real, synthetic = display.axes_[0].patches
    assert to_hex(real.get_facecolor()) == "#ff0000"
    assert synthetic.get_linewidth() == 4
    assert [t.get_text() for t in display.axes_[0].get_legend().get_texts()] == ["seen", "synthetic"]


def test_only_some_columns_unless_asked(digits):
    assert len(MarginalsDisplay.from_tables(digits[0], digits[0]).axes_) == 24
    assert len(CorrelationDisplay.from_tables(digits[0], digits[0]).names) == 64


@pytest.mark.parametrize(
    "convert", [pl.from_pandas, lambda t: t.convert_dtypes(), lambda t: t.astype(object)]
)
def test_any_kind_of_table(table, convert):
    one = MarginalsDisplay.from_tables(table, table[::2])
    for real, synthetic in ((convert(table), convert(table[::2])), (table, convert(table[::2]))):
        other = MarginalsDisplay.from_tables(real, synthetic, columns=["size", "kind", "town"])
        if real["size"].dtype == object:
            continue  # a column of objects is one of levels
        for shown in other.marginals:
            np.testing.assert_allclose(shown.real, by_name(one)[shown.name].real)
            np.testing.assert_allclose(shown.synthetic, by_name(one)[shown.name].synthetic)
            assert shown.missing == by_name(one)[shown.name].missing


def test_associations_of_any_kind_of_table(table):
    one = CorrelationDisplay.from_tables(table, table[::-1])
    np.testing.assert_allclose(one.difference, 0, atol=1e-12)
    np.testing.assert_array_equal(one.difference, one.synthetic - one.real)
    for other in (pl.from_pandas(table), table.convert_dtypes(), table.astype(object).to_numpy()):
        np.testing.assert_allclose(CorrelationDisplay.from_tables(other, table).real, one.real)
        np.testing.assert_allclose(CorrelationDisplay.from_tables(table, other).synthetic, one.real)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_moments_are_numbers(library):
    moments = [datetime(2020, 1, 1, 12), None, datetime(2020, 1, 3)] * 20
    table = import_module(library).DataFrame({"moment": moments, "value": [1.0, 2.0, 4.0] * 20})
    display = CorrelationDisplay.from_tables(table, table)
    np.testing.assert_allclose(display.real, 1.0)
    shown = MarginalsDisplay.from_tables(table, table).marginals[0]
    assert shown.levels is None
    np.testing.assert_allclose(shown.edges[[0, -1]], [18262.5, 18264.0], atol=0.1)  # days since 1970
    np.testing.assert_allclose(shown.missing, 1 / 3)


def test_pearson_leaves_out_missing_cells_by_pair():
    rng = np.random.default_rng(0)
    X = 1e6 + rng.normal(size=(80, 4)) @ rng.normal(size=(4, 4))
    X[rng.random(X.shape) < 0.3] = np.nan
    X[:, 3] = 5.0
    display = CorrelationDisplay.from_tables(X, X)
    expected = pd.DataFrame(X).corr().to_numpy()
    np.testing.assert_allclose(display.real, expected, atol=1e-6)
    assert np.isnan(display.real[3]).all()


def test_correlation_ratio_is_that_of_an_analysis_of_variance(table):
    display = CorrelationDisplay.from_tables(table, table, columns=["size", "kind"])
    groups = [own["size"].to_numpy() for _, own in table.dropna().groupby("kind")]
    n, k = sum(map(len, groups)), len(groups)
    f = stats.f_oneway(*groups).statistic * (k - 1) / (n - k)
    expected = np.sqrt(f / (1 + f))
    assert display.real[0, 1] == display.real[1, 0] == pytest.approx(expected)
    assert 0.2 < expected < 0.9


def test_cramers_v_is_corrected(table):
    display = CorrelationDisplay.from_tables(table, table, columns=["kind", "town"])
    counts = pd.crosstab(table["kind"], table["town"]).to_numpy()
    n, (r, c) = counts.sum(), counts.shape
    phi2 = stats.chi2_contingency(counts, correction=False).statistic / n
    phi2 = max(0, phi2 - (r - 1) * (c - 1) / (n - 1))
    expected = np.sqrt(phi2 / min(r - (r - 1) ** 2 / (n - 1) - 1, c - (c - 1) ** 2 / (n - 1) - 1))
    assert display.real[0, 1] == pytest.approx(expected)
    assert expected < 0.15  # they are independent
    np.testing.assert_allclose(np.diag(display.real), 1, rtol=1e-6)


def test_cramers_v_without_levels():
    frame = pd.DataFrame(
        {"same": ["a"] * 6, "each": list("abcdef"), "none": [None] * 6, "two": list("ababab")}
    )
    display = CorrelationDisplay.from_tables(frame, frame)
    assert np.isnan(display.real[[0, 1, 2]]).all()
    assert display.real[3, 3] == pytest.approx(1)


def test_heat_maps(table):
    other = table.sample(frac=1, random_state=0).assign(town=table["town"].to_numpy())
    display = CorrelationDisplay.from_tables(table, other, cmap="viridis", alpha=0.9)
    for ax, values in zip(display.axes_, (display.real, display.synthetic, display.difference), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), values)
        assert ax.images[0].get_cmap().name == "viridis"
        assert ax.images[0].get_alpha() == 0.9
    assert display.axes_[0].images[0].get_clim() == display.axes_[1].images[0].get_clim() == (-1, 1)
    most = np.abs(display.difference).max()
    assert display.axes_[2].images[0].get_clim() == pytest.approx((-max(most, 0.05), max(most, 0.05)))
    names = [text.get_text() for text in display.axes_[0].get_yticklabels()]
    assert names == display.names == list(table.columns)
    mean = np.abs(display.difference[~np.eye(5, dtype=bool)]).mean()
    assert f"mean absolute: {mean:.3f}" in [ax.get_ylabel() for ax in display.figure_.axes]


@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame, lambda X: pl.DataFrame(X, schema=list("abc"))])
def test_tables_of_an_estimator(kind, cancer):
    X = kind(cancer[0][:, :3])
    vae = tiny(2).fit(X)
    rows = np.asarray(vae.sample(50, random_state=1))
    shown = MarginalsDisplay.from_estimator(vae, X, n_samples=50, random_state=1).marginals[2]
    clipped = np.clip(rows[:, 2], shown.edges[0], shown.edges[-1])
    np.testing.assert_allclose(shown.synthetic, np.histogram(clipped, shown.edges)[0] / 50)
    display = CorrelationDisplay.from_estimator(vae, X, random_state=1)
    expected = np.corrcoef(np.asarray(vae.sample(240, random_state=1)).T)
    np.testing.assert_allclose(display.synthetic, expected, rtol=1e-5)
    np.testing.assert_allclose(display.real, np.corrcoef(cancer[0][:, :3].T))


def test_tables_that_do_not_fit(table):
    tables = MarginalsDisplay.from_tables
    with pytest.raises(ValueError, match=r"Got synthetic without the columns \['kind'\]"):
        tables(table, table.drop(columns="kind"))
    with pytest.raises(ValueError, match=r"Got 5 real and 2 synthetic columns"):
        tables(table, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"Got levels in the synthetic column 'size'; expected numbers"):
        tables(table, table.assign(size="x"))
    for columns in (["nose"], [5], []):
        with pytest.raises(ValueError, match=r"Got columns=.*expected names among \['size'"):
            tables(table, table, columns=columns)
    with pytest.raises(ValueError, match=r"Got a table of shape \(3,\)"):
        tables(np.zeros(3), np.zeros(3))
    assert len(tables(table, table.iloc[:, ::-1]).marginals) == 5  # columns go by name


# -- notebooks ---------------------------------------------------------------------------------


def test_html_links_to_the_docs(conditional):
    page = "https://skvae.readthedocs.io/en/latest/reference/generated/skvae.VAETransformer.html"
    assert page in VAETransformer()._repr_html_()
    html = conditional._repr_html_()
    assert page in make_pipeline(conditional)._repr_html_()
    if parse_version(sklearn.__version__) < parse_version("1.9"):
        return
    fitted = {name for name in vars(conditional) if re.fullmatch(r"[a-z]\w*_", name)}
    assert fitted >= {"module_", "history_", "kl_per_component_", "classes_"}
    for name in fitted | set(conditional.get_params()):
        assert f"--doc-link-{name};" in html, f"the docstring has no entry {name}"
    assert len(html) < 100_000  # no weights, no long history


def test_keywords_by_their_short_names_and_for_each_point(plane, digits):
    X, y = digits
    display = LatentDisplay.from_estimator(plane, X, y, lw=2, s=np.arange(len(X)), alpha=np.full(len(X), 0.5))
    for k, scatter in enumerate(display.scatters_):
        assert scatter.get_linewidth() == [2]
        np.testing.assert_array_equal(scatter.get_sizes(), np.flatnonzero(y == k))
    assert {line.get_color() for line in LossCurveDisplay.from_estimator(plane, c="r", ls=":").lines_} == {
        "r"
    }


@pytest.mark.parametrize("n_columns", [0, 1.5])
def test_columns_of_a_mosaic_are_counted(plane, digits, n_columns):
    table = pd.DataFrame({"a": [1.0, 2.0]})
    for draw in (
        lambda: SampleDisplay.from_estimator(plane, n_columns=n_columns),
        lambda: ReconstructionDisplay.from_estimator(plane, digits[0], n_columns=n_columns),
        lambda: MarginalsDisplay.from_tables(table, table, n_columns=n_columns),
    ):
        with pytest.raises(ValueError, match=re.escape(f"Got n_columns={n_columns}")):
            draw()


def test_other_rows_of_a_mosaic_have_no_names(digits):
    X, _ = digits
    assert len(SampleDisplay.from_images(X[:6], row_names=np.array(["a", "b"])).ax_.get_yticks()) == 2
    display = SampleDisplay.from_images(X[:6], row_names=["a", "b"], n_columns=2)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == []


def test_dollars_are_no_mathematics():
    table = pd.DataFrame({"a_$^$": ["$40K - $60K", "$1"] * 20, "z": range(40)})
    display = MarginalsDisplay.from_tables(table, table)
    display.figure_.canvas.draw()
    assert display.axes_.ravel()[0].get_yticklabels()[0].get_text() == r"\$1"
    CorrelationDisplay.from_tables(table, table).figure_.canvas.draw()


def test_columns_go_by_their_own_names_before_places():
    table = pd.DataFrame(np.zeros((9, 4)), columns=[3, 1, 0, 2])
    display = MarginalsDisplay.from_tables(table, table, columns=[3, 2, "1"])
    assert [marginal.name for marginal in display.marginals] == ["3", "2", "1"]
    table.columns = [10, 20, 30, 40]
    display = MarginalsDisplay.from_tables(table, table, columns=[40, 0])
    assert [marginal.name for marginal in display.marginals] == ["40", "10"]


@pytest.mark.parametrize("names", [["p$\\frac$", "b"], ["_a", "_b"], ["", "b"]])
def test_class_names_are_drawn_as_they_are(names):
    y = np.array(names)[np.arange(40) % 2]
    X = np.random.default_rng(0).normal(size=(40, 4))
    display = LatentDisplay.from_latents(X[:, :2], y)
    display.figure_.canvas.draw()
    shown = [text.get_text().replace(r"\$", "$") for text in display.legend_.get_texts()]
    assert shown == sorted(names)
    vae = VAETransformer(1, conditional=True, max_iter=1, random_state=0).fit(X, y)
    SampleDisplay.from_estimator(vae, image_shape=(2, 2), n_samples=4).figure_.canvas.draw()


def test_masked_pixels_and_those_of_nullable_types_are_missing():
    X = np.random.default_rng(0).normal(size=(40, 4))
    assert np.isnan(SampleDisplay.from_images(np.ma.masked_greater(X, 1)).images).sum() == (X > 1).sum()
    table = pd.DataFrame(X, columns=list("abcd")).astype("Float64")
    table.iloc[0, 0] = pd.NA
    vae = VAETransformer(1, max_iter=1, random_state=0).fit(table)
    display = ReconstructionDisplay.from_estimator(vae, table)
    assert np.isnan(display.images).sum() == 1


def test_what_displays_refuse():
    X = np.random.default_rng(0).random((7, 4))
    table = pd.DataFrame(X, columns=list("abcd"))
    assert CorrelationDisplay.from_tables(X, X, norm=Normalize(-1, 1)).axes_.size
    with pytest.raises(TypeError, match="Got norm; expected vmin and vmax"):
        SampleDisplay.from_images(X, norm=Normalize(0, 1))
    with pytest.raises(ValueError, match="Got 5 row_names for 7 images"):
        SampleDisplay.from_images(X, row_names=list("abcde"))
    with pytest.raises(ValueError, match=r"Got columns=\[True, False\]"):
        MarginalsDisplay.from_tables(X, X, columns=[True, False])
    with pytest.raises(ValueError, match="Got a synthetic table without a row"):
        MarginalsDisplay.from_tables(table, table[:0])
