"""VAETransformer inside scikit-learn's tools, on real data."""

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn

from skvae import VAETransformer
from skvae.networks import MLP


def small(n_components=3, **params):
    return VAETransformer(
        n_components, **({"max_iter": 30, "random_state": 0, "hidden_layer_sizes": (32,)} | params)
    )


@pytest.fixture(scope="module")
def fitted(cancer):
    X, _ = cancer
    return small().fit(X)


@pytest.fixture(scope="module", params=["pandas", "polars"])
def frame(request, diabetes):
    columns = [f"column {i}" for i in range(diabetes.shape[1])]
    if request.param == "pandas":
        return pd.DataFrame(diabetes, columns=columns, index=np.arange(len(diabetes)) + 1000)
    return pl.DataFrame(diabetes, schema=columns)


# -- pipelines ---------------------------------------------------------------------------------


def test_pipeline_reduces_for_a_classifier(digits):
    X, y = digits
    pipeline = make_pipeline(small(8, max_iter=150), LogisticRegression(max_iter=500))
    accuracy = pipeline.fit(X[:150], y[:150]).score(X[150:], y[150:])
    assert accuracy > 0.6  # chance is 0.1


def test_y_does_not_leak_into_the_latents(digits):
    X, y = digits
    np.testing.assert_array_equal(small().fit_transform(X, y), small().fit_transform(X))


def test_pipeline_goes_back_to_the_data(cancer):
    X, _ = cancer
    pipeline = make_pipeline(StandardScaler(), small(8, max_iter=150)).fit(X)
    back = pipeline.inverse_transform(pipeline.transform(X))
    assert back.shape == X.shape
    assert np.mean(((back - X) / X.std(axis=0)) ** 2) < 0.5  # the column means leave 1


def test_pipeline_hands_on_log_likelihoods(cancer):
    X, _ = cancer
    scaler = MinMaxScaler().fit(X)
    pipeline = make_pipeline(MinMaxScaler(), small()).fit(X)
    inside = small().fit(scaler.transform(X))
    np.testing.assert_array_equal(pipeline.score_samples(X), inside.score_samples(scaler.transform(X)))
    assert pipeline.score(X) == inside.score(scaler.transform(X))


def test_column_transformer_and_feature_union(cancer):
    X, _ = cancer
    X = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
    first = list(X.columns[:10])
    columns = ColumnTransformer([("vae", small(2), first), ("rest", StandardScaler(), ["c20"])])
    Z = columns.fit_transform(X)
    np.testing.assert_array_equal(Z[:, :2], small(2).fit_transform(X[first]))
    assert list(columns.get_feature_names_out()) == [
        "vae__vaetransformer0",
        "vae__vaetransformer1",
        "rest__c20",
    ]
    union = FeatureUnion([("a", small(2)), ("b", small(1, random_state=1))]).set_output(transform="pandas")
    assert union.fit_transform(X).columns.tolist() == [
        "a__vaetransformer0",
        "a__vaetransformer1",
        "b__vaetransformer0",
    ]


# -- model selection ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["own log-likelihood", "accuracy"])
def searches(request, cancer):
    """The same search by one process and by two."""
    X, y = cancer
    if request.param == "accuracy":
        estimator, grid = (
            make_pipeline(small(), LogisticRegression(max_iter=500)),
            "vaetransformer__n_components",
        )
    else:
        estimator, grid, y = small(), "n_components", None
    return [GridSearchCV(estimator, {grid: [1, 6]}, cv=2, n_jobs=n).fit(X, y) for n in (1, 2)]


def test_search_gives_the_same_scores_with_two_jobs(searches):
    one, two = (search.cv_results_ for search in searches)
    for split in ("split0_test_score", "split1_test_score"):
        assert np.isfinite(one[split]).all()
        np.testing.assert_allclose(two[split], one[split], rtol=1e-6)


def test_search_finds_more_components_better(searches):
    assert list(searches[0].best_params_.values()) == [6]
    assert searches[1].best_params_ == searches[0].best_params_


def test_cross_val_score_is_the_log_likelihood_of_held_out_rows(cancer):
    X, _ = cancer
    scores = cross_val_score(small(), X, cv=[(np.arange(160), np.arange(160, 240))])
    assert scores[0] == small().fit(X[:160]).score(X[160:])


def test_search_over_the_hyper_parameters_of_a_likelihood(diabetes):
    from skvae.likelihoods import Gaussian

    search = GridSearchCV(small(likelihood=Gaussian()), {"likelihood__sigma": ["feature", "shared"]}, cv=2)
    search.fit(diabetes)
    assert search.best_estimator_.likelihood_.sigma == search.best_params_["likelihood__sigma"]


# -- copies ------------------------------------------------------------------------------------


def test_clone_is_unfitted_and_equal(fitted, cancer):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "module_")
    np.testing.assert_array_equal(copy.fit(cancer[0]).transform(cancer[0]), fitted.transform(cancer[0]))


def assert_equal_models(a, b, X):
    np.testing.assert_array_equal(a.transform(X), b.transform(X))
    np.testing.assert_array_equal(a.score_samples(X), b.score_samples(X))
    np.testing.assert_array_equal(a.sample(3, random_state=0), b.sample(3, random_state=0))


def test_pickle_keeps_every_bit(fitted, cancer):
    assert_equal_models(pickle.loads(pickle.dumps(fitted)), fitted, cancer[0])


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_joblib_keeps_every_bit(fitted, cancer, tmp_path, mmap_mode):
    joblib.dump(fitted, tmp_path / "vae.joblib")
    assert_equal_models(joblib.load(tmp_path / "vae.joblib", mmap_mode=mmap_mode), fitted, cancer[0])


def test_copies_go_on_learning(cancer):
    X, _ = cancer
    vae = small().partial_fit(X)
    copy = pickle.loads(pickle.dumps(vae))
    assert_equal_models(copy.partial_fit(X), vae.partial_fit(X), X)


def test_memmapped_rows(fitted, cancer, tmp_path):
    X, _ = cancer
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert_equal_models(small().fit(mapped, X_val=mapped), small().fit(X, X_val=X), mapped)
    assert_equal_models(fitted, fitted, mapped)


# -- threads and processes ---------------------------------------------------------------------


def test_threads_at_once_agree(fitted, cancer):
    X, _ = cancer
    Z, scores = fitted.transform(X), fitted.score_samples(X)
    with ThreadPoolExecutor(4) as pool:
        transforms = [pool.submit(fitted.transform, X) for _ in range(8)]
        scorings = [pool.submit(fitted.score_samples, X) for _ in range(8)]
        fits = [pool.submit(lambda: small().fit(X).transform(X)) for _ in range(4)]
    for future in transforms + fits:
        np.testing.assert_array_equal(future.result(), Z)
    for future in scorings:
        np.testing.assert_array_equal(future.result(), scores)


def use_in_child(vae, X, pipe):
    pipe.send((vae.transform(X), clone(vae).fit(X).transform(X)))
    pipe.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_transforms_and_fits(fitted, cancer):
    X, _ = cancer
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(500, 500) @ torch.ones(500, 500)  # start the pool that a forked child does not have
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=use_in_child, args=(fitted, X, sender))
        child.start()
        answered = receiver.poll(30)
        if not answered:
            child.kill()
        child.join()
    finally:
        torch.set_num_threads(before)
    assert answered
    assert child.exitcode == 0
    Z, again = receiver.recv()
    np.testing.assert_allclose(Z, fitted.transform(X), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(again, Z, rtol=1e-6, atol=1e-6)


class ThreadCounter(nn.Module):
    """A network that remembers how many threads torch had when it ran."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.network = MLP((32,))(in_features, out_features)
        self.most = 0

    def forward(self, x):
        self.most = max(self.most, torch.get_num_threads())
        return self.network(x)


def threads_in_fit(X):
    vae = small(encoder=ThreadCounter, max_iter=2).fit(X)
    vae.transform(X)
    return vae.module_.encoder.most


def test_workers_do_not_oversubscribe_threads(digits):
    threads = joblib.Parallel(n_jobs=2)(joblib.delayed(threads_in_fit)(digits[0]) for _ in range(2))
    assert sum(threads) <= max(2, joblib.cpu_count())


# -- metadata routing --------------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def weight(cancer):
    return np.random.default_rng(0).integers(0, 4, len(cancer[0])).astype(float)


@pytest.mark.usefixtures("routing")
def test_weights_reach_the_estimator_in_a_pipeline(cancer, weight):
    X, y = cancer
    vae = small().set_fit_request(sample_weight=True)
    last = make_pipeline(MinMaxScaler(), vae).fit(X, sample_weight=weight)
    direct = small().fit(MinMaxScaler().fit_transform(X), sample_weight=weight)
    np.testing.assert_array_equal(last.transform(X), direct.transform(MinMaxScaler().fit_transform(X)))
    middle = make_pipeline(vae, LogisticRegression(max_iter=500).set_fit_request(sample_weight=False))
    middle.fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(middle[0].transform(X), small().fit(X, sample_weight=weight).transform(X))


@pytest.mark.usefixtures("routing")
def test_weights_reach_fit_and_score_in_a_search(cancer, weight):
    X, _ = cancer
    vae = small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    split = (np.arange(160), np.arange(160, 240))
    search = GridSearchCV(vae, {"beta": [1.0]}, cv=[split], refit=False).fit(X, sample_weight=weight)
    expected = small().fit(X[:160], sample_weight=weight[:160]).score(X[160:], sample_weight=weight[160:])
    assert search.cv_results_["split0_test_score"][0] == expected


@pytest.mark.usefixtures("routing")
def test_a_request_is_needed(cancer, weight):
    X, _ = cancer
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
        make_pipeline(small(), StandardScaler()).fit(X, sample_weight=weight)


# -- tables in, tables out ---------------------------------------------------------------------


@pytest.mark.parametrize(("output", "kind"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_set_output(fitted, cancer, output, kind):
    X, _ = cancer
    vae = pickle.loads(pickle.dumps(fitted)).set_output(transform=output)
    Z = vae.transform(X)
    assert isinstance(Z, kind)
    assert list(Z.columns) == ["vaetransformer0", "vaetransformer1", "vaetransformer2"]
    np.testing.assert_array_equal(Z.to_numpy(), fitted.transform(X))
    np.testing.assert_array_equal(vae.inverse_transform(Z), fitted.inverse_transform(Z.to_numpy()))
    mean, _ = vae.posterior(X)
    np.testing.assert_array_equal(mean, Z.to_numpy())


def test_set_output_keeps_the_index(diabetes):
    X = pd.DataFrame(diabetes, columns=list("abcdefghij"), index=np.arange(len(diabetes)) * 2)
    assert small().set_output(transform="pandas").fit_transform(X).index.equals(X.index)


def test_a_frame_gives_frames(frame):
    vae = small().fit(frame)
    assert list(vae.feature_names_in_) == list(frame.columns)
    values = frame.to_numpy()
    np.testing.assert_array_equal(vae.transform(frame), small().fit_transform(values))
    for X in (vae.inverse_transform(vae.transform(frame)), vae.sample(5, random_state=0)):
        assert type(X) is type(frame)
        assert list(X.columns) == list(frame.columns)
    assert len(vae.sample(5)) == 5
    np.testing.assert_array_equal(
        vae.inverse_transform(vae.transform(frame)).to_numpy(),
        small().fit(values).inverse_transform(vae.transform(frame)),
    )


def test_an_array_gives_arrays(fitted, cancer):
    assert isinstance(fitted.sample(2), np.ndarray)
    assert isinstance(fitted.inverse_transform(fitted.transform(cancer[0])), np.ndarray)


def test_frames_with_other_columns_are_refused(frame):
    vae = small(max_iter=2).fit(frame)
    other = frame[list(frame.columns)[::-1]]
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        vae.transform(other)
    renamed = (
        frame.rename({"column 0": "age"})
        if isinstance(frame, pl.DataFrame)
        else frame.rename(columns=str.upper)
    )
    with pytest.raises(ValueError, match="Feature names unseen at fit time"):
        vae.score_samples(renamed)


# -- what a user sees while it trains ----------------------------------------------------------


def test_silent_by_default(diabetes, capsys):
    small().fit(diabetes)
    assert capsys.readouterr() == ("", "")


def test_verbose_prints_epochs(diabetes, capsys):
    small(verbose=1).fit(diabetes)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Epoch 1/30")
    assert lines[-1].startswith("Epoch 30/30")
    for word in ("loss", "reconstruction", "kl"):
        assert word in lines[-1]
