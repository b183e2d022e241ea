"""VAETransformer with conditional=True: p(z given y), from fit to sample."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from skvae import VAETransformer
from skvae._arrays import merge_rows, split_rows
from skvae.priors import Mixture, VampPrior

SHARES = np.array([0.5, 0.3, 0.2])
CENTRES = np.array([[0.0, 0, 0], [6, 0, 0], [0, 6, 3]])
NAMES = np.array(["ash", "beech", "cedar"])


def small(n_components=2, **params):
    defaults = {"max_iter": 5, "random_state": 0, "hidden_layer_sizes": (16,), "conditional": True}
    return VAETransformer(n_components, **(defaults | params))


@pytest.fixture(scope="module")
def groups():
    """Rows around a centre for each class; X and y."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], (200 * SHARES).astype(int))
    return CENTRES[y] + rng.normal(size=(200, 3)), y


@pytest.fixture(scope="module")
def fitted(groups):
    """A model that has learned the classes; tests must leave it as it is."""
    X, y = groups
    much = np.full(len(X), 1000)  # no need to guard against learning by heart
    return small(max_iter=200, learning_rate=0.03, prior=Mixture(2)).fit(X, NAMES[y], sample_weight=much)


@pytest.fixture(scope="module")
def quick(groups):
    """A model that has learned next to nothing; tests must leave it as it is."""
    return small().fit(*groups)


def nearest(X):
    return ((X[:, None] - CENTRES) ** 2).sum(-1).argmin(1)


# -- it is right -------------------------------------------------------------------------------


def test_samples_of_a_class_are_of_that_class(fitted):
    for code, name in enumerate(NAMES):
        new = fitted.sample(1000, y=name, random_state=0)
        assert np.mean(nearest(new) == code) > 0.95
        np.testing.assert_allclose(new.mean(0), CENTRES[code], atol=0.3)


def test_samples_of_many_classes_keep_their_order(fitted):
    y = np.random.default_rng(1).integers(0, 3, 1000)
    assert np.mean(nearest(fitted.sample(1000, y=NAMES[y], random_state=0)) == y) > 0.95


def test_samples_without_a_class_are_as_frequent_as_in_training(fitted):
    counts = np.bincount(nearest(fitted.sample(4000, random_state=0)), minlength=3)
    assert stats.chisquare(counts, 4000 * SHARES).pvalue > 1e-4


def test_score_of_a_class_is_about_its_true_density(fitted, groups):
    X, y = groups
    true = stats.multivariate_normal.logpdf(X - CENTRES[y], np.zeros(3))
    assert fitted.score(X, NAMES[y]) == pytest.approx(true.mean(), abs=0.1)
    worth = fitted.score(X, NAMES[y]) - fitted.score(X)  # classes so far apart say all that y does
    assert worth == pytest.approx(stats.entropy(SHARES), abs=0.1)
    assert fitted.score(X, NAMES[(y + 1) % 3]) < true.mean() - 5


def test_score_without_a_class_runs_over_the_classes(fitted, groups):
    X = groups[0][:20]
    by_class = [fitted.score_samples(X, y=np.full(20, name)) for name in NAMES]
    both = logsumexp(np.stack(by_class, 1) + np.log(SHARES), axis=1)
    np.testing.assert_allclose(fitted.score_samples(X), both, rtol=1e-9)


def test_score_is_the_mean_of_score_samples(quick, groups):
    X, y = groups
    scores, weight = quick.score_samples(X, y=y), np.arange(200.0)
    assert quick.score(X, y) == pytest.approx(scores.mean())
    assert quick.score(X, y, sample_weight=weight) == pytest.approx(np.average(scores, weights=weight))
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_allclose(quick.score_samples(X[order], y=y[order]), scores[order], rtol=1e-9)


def test_latents_need_no_class(fitted, groups):
    Z = fitted.transform(groups[0])
    assert Z.shape == (200, 2)
    assert fitted.inverse_transform(Z).shape == (200, 3)


def test_the_prior_of_a_class_of_one_row_is_wide(groups):
    X, y = groups
    X, y = np.vstack((X, [[20.0, 20, 20]])), np.append(y, 3)
    vae = small(max_iter=100).fit(X, y)
    assert max(vae.history_["kl"]) < 20
    assert vae.score_samples(X[-1:], y=[3])[0] > vae.score_samples(X[-1:], y=[0])[0] - 5


# -- repeated rows, weights, validation rows ---------------------------------------------------


def test_equal_rows_of_different_classes_stay_apart():
    X = np.array([[1.0, 2], [3, 4], [1, 2], [1, 2], [3, 4]])
    rows, weight, y = merge_rows(X, None, np.array([1, 0, 0, 1, 0]))
    np.testing.assert_array_equal(rows, [[1, 2], [1, 2], [3, 4]])
    np.testing.assert_array_equal(weight, [1, 2, 2])
    np.testing.assert_array_equal(y, [0, 1, 0])


@pytest.mark.parametrize(
    "params", [{}, {"early_stopping": True}, {"prior": "vamp"}, {"batch_size": 20}], ids=str
)
def test_weight_equals_repetition(groups, params):
    rng = np.random.default_rng(0)
    X, y = groups[0][::4], groups[1][::4]
    weight, order = rng.integers(0, 4, 50), rng.permutation(50)
    by_weight = small(**params).fit(X[order], y[order], sample_weight=weight[order])
    by_repetition = small(**params).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    for call in (
        lambda vae: vae.transform(X),
        lambda vae: vae.sample(9, y=2, random_state=0),
        lambda vae: vae.score_samples(X, y=y),
    ):
        np.testing.assert_allclose(call(by_weight), call(by_repetition), rtol=1e-7, atol=1e-9)


def test_a_class_of_weight_zero_is_none(groups):
    X, y = groups
    vae = small().fit(X, y, sample_weight=(y != 1).astype(float))
    np.testing.assert_array_equal(vae.classes_, [0, 2])


def test_validation_rows_have_classes(groups):
    X, y = groups
    losses = [
        small(max_iter=60, learning_rate=0.03).fit(X, y, X_val=X, y_val=y_val).history_["validation_loss"][-1]
        for y_val in (y, None, (y + 1) % 3)
    ]
    assert losses == sorted(losses)
    assert losses[1] > losses[0] + 0.1


def test_early_stopping_goes_on_with_classes(groups):
    vae = small(max_iter=200, early_stopping=True, n_iter_no_change=3, learning_rate=0.02).fit(*groups)
    assert len(vae.history_["validation_loss"]) == vae.n_iter_ < 200
    assert np.isfinite(vae.score(*groups))


@pytest.mark.parametrize("n_rows", [60, 6])
def test_pseudo_inputs_of_a_class_do_not_start_at_rows_held_out(n_rows):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n_rows, 3)), np.arange(n_rows) % 2
    vae = small(prior=VampPrior(50), early_stopping=True, validation_fraction=0.3, learning_rate=1e-14)
    vae.fit(X, y)
    rows, _, codes = merge_rows(X, None, y)
    inside, aside = split_rows(n_rows, 0.3, vae._seed)
    module = vae.module_
    features = module.likelihood.standardize(torch.tensor(rows))
    for code, prior in enumerate(module.prior.models):
        got = prior.inputs.detach()
        want = features[inside][codes[inside] == code]
        assert torch.cdist(features[aside], got).min() > 1e-6
        torch.testing.assert_close(
            torch.cdist(want, got).amin(0), torch.zeros(len(want)).double(), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
@pytest.mark.parametrize("seed", range(3))
def test_a_class_of_one_row(groups, prior, seed):
    X, y = groups
    y = np.where(np.arange(200) == 7, 9, y)
    vae = small(prior=prior, max_iter=2, early_stopping=True, validation_fraction=0.6, random_state=seed).fit(
        X, y
    )
    assert np.isfinite(vae.sample(5, y=9)).all()
    assert np.isfinite(vae.score_samples(X, y=y)).all()


def test_one_class_is_enough(groups):
    X, _ = groups
    vae = small().fit(X, np.zeros(200))
    np.testing.assert_array_equal(vae.classes_, [0])
    np.testing.assert_allclose(vae.score_samples(X, y=np.zeros(200)), vae.score_samples(X), rtol=1e-9)


# -- kinds of classes --------------------------------------------------------------------------

KINDS = {
    "strings": lambda y: NAMES[y],
    "objects": lambda y: NAMES[y].astype(object),
    "booleans": lambda y: y > 0,
    "floats": lambda y: y * 10.0,
    "series": lambda y: pd.Series(NAMES[y], index=np.arange(len(y)) + 5),
    "categories": lambda y: pd.Series(NAMES[y]).astype("category"),
    "list": lambda y: NAMES[y].tolist(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_classes(groups, quick, kind):
    X, y = groups
    labels = KINDS[kind](y)
    vae = small().fit(X, labels)
    np.testing.assert_array_equal(vae.classes_, np.unique(np.asarray(labels)))
    if kind != "booleans":  # the others are names of the same model
        np.testing.assert_array_equal(vae.transform(X), quick.transform(X))
        assert vae.score(X, labels) == quick.score(X, y)
    last = vae.classes_[-1]
    np.testing.assert_array_equal(
        vae.sample(3, y=last, random_state=0), vae.sample(3, y=[last] * 3, random_state=0)
    )


BAD_CLASSES = {
    "none": (None, "requires y to be passed"),
    "short": (np.zeros(5), "inconsistent numbers of samples"),
    "two columns": (np.zeros((200, 2)), "y should be a 1d array"),
    "nan": (np.r_[np.nan, np.zeros(199)], "Got y with missing classes"),
    "missing string": (pd.Series([None] + ["a"] * 199, dtype=object), "Got y with missing classes"),
    "real numbers": (np.linspace(0, 1, 200), "Unknown label type"),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("bad", BAD_CLASSES)
def test_bad_classes_in_training(groups, method, bad):
    y, match = BAD_CLASSES[bad]
    vae = small()
    before = dict(vars(vae))
    with pytest.raises(ValueError, match=match):
        getattr(vae, method)(groups[0], y)
    assert vars(vae) == before


@pytest.mark.parametrize("y", ["oak", 3, np.nan, ["ash", None], ["ash", 1.5], ["ash", True]], ids=str)
def test_classes_never_seen_are_named(fitted, groups, y):
    label = y if np.ndim(y) == 0 else y[-1]
    match = (
        re.escape(f"Got y with classes [{label!r}") + ".*expected some of " + re.escape(repr(NAMES.tolist()))
    )
    y = np.array([y, y] if np.ndim(y) == 0 else y, dtype=object)
    for call in (lambda: fitted.sample(2, y=y), lambda: fitted.score_samples(groups[0][:2], y=y)):
        with pytest.raises(ValueError, match=match):
            call()


def test_names_of_numbers_are_no_numbers(groups):
    X, y = groups
    vae = small().fit(X, np.array([2, 10, 100])[y])
    with pytest.raises(ValueError, match=r"classes \['10'\].*expected some of \[2, 10, 100\]"):
        vae.sample(1, y="10")


def test_lengths_of_classes_are_checked(quick, groups):
    X, y = groups
    for call in (
        lambda: quick.sample(3, y=[0, 1]),
        lambda: quick.score(X, y[:9]),
        lambda: quick.score_samples(X, y=y[:9]),
    ):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            call()


def test_bad_classes_of_validation_rows(groups):
    X, y = groups
    with pytest.raises(ValueError, match=r"In X_val, y_val: Got y with classes \[3\]"):
        small().fit(X, y, X_val=X, y_val=y + 1)
    with pytest.raises(ValueError, match="Got y_val without X_val"):
        small().fit(X, y, y_val=y)


def test_a_prior_that_learns_nothing_has_no_classes(groups):
    with pytest.raises(ValueError, match=r"Got prior='normal'.* the same for every class"):
        small(prior="normal").fit(*groups)


def test_a_model_without_classes_refuses_them(groups):
    X, y = groups
    vae = small(conditional=False).fit(X, y)
    assert not hasattr(vae, "classes_")
    assert vae.score(X, y) == vae.score(X)  # as every transformer in a pipeline is given y
    for call in (lambda: vae.sample(2, y=1), lambda: vae.score_samples(X, y=y)):
        with pytest.raises(ValueError, match=r"for a model without classes\. Set conditional=True"):
            call()


# -- fits one after the other ------------------------------------------------------------------


def test_chunks_need_not_have_every_class(groups):
    X, y = groups
    vae = small().partial_fit(X, y)
    for code in (2, 0):
        vae.partial_fit(X[y == code], y[y == code])
    assert vae.n_iter_ == 3
    np.testing.assert_array_equal(vae.classes_, [0, 1, 2])
    counts = 200 * SHARES * [2, 1, 2]  # of all chunks
    np.testing.assert_allclose(vae.module_.prior.log_shares.exp(), counts / counts.sum())
    before = vae.transform(X)
    with pytest.raises(ValueError, match=r"Got y with classes \[3\]"):
        vae.partial_fit(X, y + 1)
    np.testing.assert_array_equal(vae.transform(X), before)


def test_passes_teach_the_classes(groups):
    X, y = groups
    vae = small(prior=Mixture(2), learning_rate=0.03)
    for _ in range(100):
        vae.partial_fit(X, y)
    assert vae.score(X, y) > vae.score(X) + 0.3


def test_a_warm_start_goes_on_with_classes(groups):
    X, y = groups
    vae = small(warm_start=True).fit(X, y)
    before = vae.score(X, y)
    assert vae.set_params(max_iter=60).fit(X, y).n_iter_ == 60
    assert vae.score(X, y) > before
    with pytest.raises(
        ValueError, match="Got conditional=False for a model that was built with conditional=True"
    ):
        vae.set_params(conditional=False).fit(X)


@pytest.mark.parametrize("conditional", [True, False])
def test_a_refit_forgets(groups, conditional):
    X, y = groups
    vae = small(conditional=not conditional).fit(X, NAMES[y])
    vae.set_params(conditional=conditional).fit(X, y)
    fresh = small(conditional=conditional).fit(X, y)
    assert vars(vae).keys() == vars(fresh).keys()
    assert hasattr(vae, "classes_") == conditional
    np.testing.assert_array_equal(vae.sample(5, random_state=0), fresh.sample(5, random_state=0))


def test_parameters_set_after_a_fit_wait_for_the_next(groups, quick):
    vae = pickle.loads(pickle.dumps(quick)).set_params(conditional=False, prior="normal")
    np.testing.assert_array_equal(vae.sample(5, y=2, random_state=0), quick.sample(5, y=2, random_state=0))
    assert vae.score(*groups) == quick.score(*groups)


def test_a_failing_refit_keeps_the_classes(groups, quick):
    X, y = groups
    vae = pickle.loads(pickle.dumps(quick))
    with pytest.raises(ValueError, match="Input X contains infinity"):
        vae.fit(np.full_like(X, np.inf), NAMES[y])
    with pytest.raises(ValueError, match="Got n_modes=0"):
        vae.set_params(prior=Mixture(0)).fit(X, NAMES[y])
    np.testing.assert_array_equal(vae.classes_, [0, 1, 2])
    np.testing.assert_array_equal(vae.sample(5, y=2, random_state=0), quick.sample(5, y=2, random_state=0))


# -- inside scikit-learn -----------------------------------------------------------------------


def test_the_tag_follows_the_parameter():
    assert get_tags(small()).target_tags.required
    assert not get_tags(small(conditional=False)).target_tags.required


def test_pickle_and_clone(fitted, groups):
    X, y = groups
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        loaded.sample(9, y="cedar", random_state=0), fitted.sample(9, y="cedar", random_state=0)
    )
    np.testing.assert_array_equal(loaded.score_samples(X, y=NAMES[y]), fitted.score_samples(X, y=NAMES[y]))
    assert not hasattr(clone(fitted), "classes_")
    assert clone(fitted).conditional


def test_search_over_the_modes_of_each_class(groups):
    order = np.random.default_rng(0).permutation(200)  # KFold cuts them into runs
    X, y = groups[0][order], groups[1][order]
    search = GridSearchCV(small(prior=Mixture()), {"prior__n_modes": [1, 4]}, cv=2, error_score="raise").fit(
        X, y
    )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.best_estimator_.module_.prior.models[0].logits) == search.best_params_["prior__n_modes"]
    assert search.score(X, y) == search.best_estimator_.score(X, y)


def test_pipeline_hands_on_the_classes(groups):
    X, y = groups
    pipeline = make_pipeline(StandardScaler(), small()).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    direct = small().fit(Z, y)
    np.testing.assert_array_equal(pipeline.transform(X), direct.transform(Z))
    assert pipeline.score(X, y) == direct.score(Z, y)
    np.testing.assert_array_equal(pipeline[-1].classes_, [0, 1, 2])


def test_frames_of_a_class(groups):
    X, y = groups
    frame = pd.DataFrame(X, columns=list("abc"))
    new = small().fit(frame, pd.Series(y)).sample(4, y=1)
    assert isinstance(new, pd.DataFrame)
    assert list(new.columns) == list("abc")


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_classes_that_are_moments(groups, unit):
    X, y = groups
    days = np.array(["2020-01-01", "2021-01-01", "2022-01-01"], dtype=f"datetime64[{unit}]")
    vae = small().fit(X, days[y])
    expected = small().fit(X, y)
    for label in (days[1], pd.Timestamp(days[1]), "2021-01-01"):
        np.testing.assert_array_equal(
            vae.sample(2, y=label, random_state=0), expected.sample(2, y=1, random_state=0)
        )
    np.testing.assert_array_equal(
        vae.score_samples(X[:9], y=days[y[:9]]), expected.score_samples(X[:9], y=y[:9])
    )
    with pytest.raises(ValueError, match=r"\['1999-01-01.*expected some of \['2020-01-01"):
        vae.sample(1, y=pd.Timestamp("1999-01-01"))


def test_classes_that_are_booleans_among_objects(groups):
    X, y = groups
    vae = small().fit(X, pd.Series(y > 0, dtype=object))
    assert vae.classes_.tolist() == [False, True]
    assert vae.sample(2, y=True).shape == (2, 3)
