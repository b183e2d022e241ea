"""VAETransformer: the border between scikit-learn's words and torch's."""

import copy
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ._arrays import Container, apply_to_rows, are_dependent, choose_rows, merge_rows, split_rows, torch_dtype
from ._compat import (
    CallbackSupportMixin,
    EpochCallbacks,
    callback_state,
    check_sample_weight,
    fit_context,
    with_callbacks,
)
from ._defaults import choose_networks, choose_plan, choose_threads
from ._random import draw_seed, global_seed, make_generator
from ._rows import Data, is_streamed, load_rows
from ._threads import threads
from ._validation import (
    OBJECTIVES,
    PARAMETER_CONSTRAINTS,
    PRIORS,
    build_network,
    check_count,
    resolve,
    resolve_device,
    resolve_likelihood,
)
from .columns import Table, is_frame
from .likelihoods import Mixed
from .model import VAE, posterior_of
from .priors import by_class
from .training import extend_history, make_optimizer, train

__all__ = ["VAETransformer"]

FLOATS = [np.float64, np.float32]
STRUCTURE = (  # what a fit that goes on cannot change
    "n_components",
    "hidden_layer_sizes",
    "activation",
    "encoder",
    "decoder",
    "likelihood",
    "categorical_features",
    "prior",
    "conditional",
)
ACTIVE = 0.01  # variance over rows of the posterior mean of a component in use
SAMPLES_AT_ONCE = 200  # of one row of what is given
PARTICLES, LEAST_PARTICLES = 32, 200  # draws to choose from for each sample, and in all
ORDER_ROWS = 10_000  # about so many rows tell the order of the components


class VAETransformer(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Variational autoencoder: reduce, reconstruct, score and generate rows.

    An encoder maps a row x to the mean and standard deviation of q(z given x), z is drawn from
    it, and a mirrored decoder gives the parameters of p(x given z). Both are trained to maximise
    the evidence lower bound: the reconstruction term E[log p(x given z)] minus the KL divergence
    of q(z given x) from the prior p(z).

    Columns are standardised inside, a missing cell (NaN) is left out of the likelihood, and
    densities are in the units of X. A DataFrame of mixed types is a table: `skvae.likelihoods.Mixed`
    tells what becomes of its columns.

    Parameters
    ----------
    n_components : int, default=16
        Number of latent dimensions.
    hidden_layer_sizes : sequence of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder is its mirror image. Empty: a linear
        encoder and decoder, which is probabilistic PCA or factor analysis.
    activation : str, default="silu"
        A key of `skvae.networks.ACTIVATIONS`.
    encoder : callable or None, default=None
        A builder ``(in_features, out_features) -> torch.nn.Module`` of another network, which gets
        and gives tensors of shape (n_rows, features): `skvae.networks.Conv` for images. Its
        out_features are 2 * n_components: means and log standard deviations.
    decoder : callable or None, default=None
        Likewise, from n_components to the parameters of p(x given z).
    likelihood : str or Likelihood, default="auto"
        p(x given z): "gaussian", "student_t", "bernoulli", "continuous_bernoulli", "poisson",
        "negative_binomial", "categorical", "mixed", or an instance from `skvae.likelihoods`. "auto"
        is "mixed" for DataFrames with a column of other than numbers, "bernoulli" for boolean NumPy
        arrays and "gaussian" for all others.
    categorical_features : "auto" or array-like, default="auto"
        Columns of levels: those of a DataFrame that hold categories, text or booleans, and beside
        them what a mask, places or names tell.
    prior : str or Prior, default="mixture"
        p(z): "normal", "mixture", "vamp", "flow", or an instance from `skvae.priors`.
    conditional : bool, default=False
        Learn p(z given y), a prior for each class of the y that `fit` gets, so that `sample` can be
        asked for a class. Encoder and decoder stay free of y, and `transform` needs none.
    objective : str or Objective, default="elbo"
        What is maximised: "elbo", "iwae", "beta_tc", "mmd", "dip", "autoencoder", or an instance
        from `skvae.objectives`.
    beta : float, default=1.0
        Weight of the KL term; with "beta_tc" of the total correlation alone. 1 for an objective
        without such a term.
    kl_warmup : float, default=0.3
        Fraction of all steps over which that weight rises from 0 to `beta`.
    max_iter : int or "auto", default="auto"
        Epochs at most.
    batch_size : int or "auto", default="auto"
        Rows per step. Up to 256 distinct rows train as one batch, in float64.
    learning_rate : float or "auto", default="auto"
        Peak rate of the one-cycle schedule.
    weight_decay : float or "auto", default="auto"
        Precision of a Gaussian prior on the networks' matrices, per row: half of it times their
        squares is added to the loss.
    early_stopping : bool, default=False
        Stop when the loss of held-out rows no longer improves, and go back to the best weights.
    validation_fraction : float, default=0.1
        Share of the rows held out for that, unless `fit` gets X_val.
    n_iter_no_change : int, default=10
        Epochs without improvement before stopping; none is counted during the KL warm-up.
    tol : float, default=1e-4
        Least improvement, in nats per row.
    warm_start : bool, default=False
        Go on from the weights and the standardisation of the last `fit`. As in
        `HistGradientBoostingClassifier`, `max_iter` counts the epochs of all fits together, so
        raise it to train on; for new rows see `partial_fit`.
    device : str or torch.device, default="auto"
        Where to compute; "auto" takes CUDA where there is one.
    precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        Type that training computes in; "auto" is float32 beyond one batch. "bfloat16" is float32
        with the networks' products in bfloat16, for wide networks and large batches on hardware
        that has it. Whatever it is, float64 rows are encoded and scored in float64, float32 rows
        in float32.
    compile : bool, default=False
        Train networks that `torch.compile` has fused. It needs a C++ compiler and some 15 s to start;
        on a CPU it then saves 2 % of a step in float32 and 8 % in bfloat16, so it pays in fits of
        many minutes, or with `encoder` and `decoder` of many small layers.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of rows and the noise. None takes fresh entropy.
    verbose : int, default=0
        1 prints an epoch's figures, at most two lines a second.

    Attributes
    ----------
    module_ : VAE
        The trained model, a `torch.nn.Module`.
    history_ : dict of str to list of float
        One entry an epoch: "loss", "reconstruction" and "kl" (nats per row), "beta",
        "learning_rate", and "validation_loss", "validation_reconstruction", "validation_kl"
        where there are validation rows.
    n_iter_ : int
        Epochs run.
    kl_per_component_ : ndarray of shape (n_components,)
        What each component tells about a row, in nats, falling; near 0: unused.
    n_active_components_ : int
        Components in use: those whose posterior mean has a variance over rows above 0.01.
    likelihood_ : Likelihood
        What the parameter stood for.
    prior_ : Prior
        What the parameter stood for.
    objective_ : Objective
        What the parameter stood for.
    classes_ : ndarray of shape (n_classes,)
        The classes of y; only if `conditional`.
    device_ : torch.device
        Where it was computed.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X has string column names.

    See Also
    --------
    sklearn.decomposition.FactorAnalysis : The linear model with the same likelihood.
    sklearn.mixture.GaussianMixture : Another density with `sample` and `score_samples`.

    References
    ----------
    Kingma and Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_iter=200, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (150, 2)
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    """

    _parameter_constraints = PARAMETER_CONSTRAINTS
    # for the HTML repr in notebooks: the page that Sphinx's autosummary makes of the public name
    _doc_link_module = "skvae"
    _doc_link_template = (
        "https://skvae.readthedocs.io/en/latest/reference/generated/skvae.{estimator_name}.html"
    )

    def __init__(
        self,
        n_components=16,
        *,
        hidden_layer_sizes="auto",
        activation="silu",
        encoder=None,
        decoder=None,
        likelihood="auto",
        categorical_features="auto",
        prior="mixture",
        conditional=False,
        objective="elbo",
        beta=1.0,
        kl_warmup=0.3,
        max_iter="auto",
        batch_size="auto",
        learning_rate="auto",
        weight_decay="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        device="auto",
        precision="auto",
        compile=False,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.categorical_features = categorical_features
        self.prior = prior
        self.conditional = conditional
        self.objective = objective
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.compile = compile
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, X_val=None, y_val=None):
        """Learn the latent space of X.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Numbers, NaN where a cell is missing; a DataFrame may hold text, categories, booleans,
            datetimes and timedeltas as well. A `numpy.memmap` of float32 or float64 that takes
            more than 1 GB stays in its file.
        y : array-like of shape (n_samples,), default=None
            Classes, if `conditional`; ignored otherwise.
        sample_weight : array-like of shape (n_samples,), default=None
            How many equal rows a row stands for. Weights are relative in the loss; their sum is the
            amount of data, which the defaults go by.
        X_val : array-like of shape (n_val_samples, n_features), default=None
            Rows to evaluate every epoch; with `early_stopping` the ones to stop by, instead of a
            part of X.
        y_val : array-like of shape (n_val_samples,), default=None
            Their classes, if `conditional`; None takes log p(x) over all classes.

        Returns
        -------
        self : VAETransformer
        """
        with self._all_or_nothing():
            continuing = self.warm_start and hasattr(self, "module_")
            return self._fit(X, y, sample_weight, (X_val, y_val), continuing=continuing)

    @with_callbacks
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Take one pass over a chunk of rows.

        The first chunk fixes the standardisation of the columns and the size of the networks, so it
        should be a fair sample; `max_iter`, `kl_warmup` and `early_stopping` play no part. The rate
        stays constant, and the weights kept are an average over the last tenth of all steps. "auto"
        takes the rows of all chunks for different ones.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            Classes, if `conditional`; the first chunk must have some of each. Ignored otherwise.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : VAETransformer
        """
        with self._all_or_nothing():
            return self._fit(
                X, y, sample_weight, (None, None), continuing=hasattr(self, "module_"), passing=True
            )

    def transform(self, X):
        """Encode rows: the posterior mean of z.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            The most informative component first.
        """
        return self.posterior(X)[0]

    def posterior(self, X):
        """Encode rows: mean and standard deviation of q(z given x).

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        mean, std : ndarray of shape (n_samples, n_components)
        """
        check_is_fitted(self)
        X = self._check_rows(X)
        module = self._module(X.dtype)

        def encode(x):
            posterior = module.encode(*_standardize(module, x))
            return torch.stack((posterior.mean, posterior.std), 1)

        encoded = apply_to_rows(encode, X, module)[:, :, self._order]
        return encoded[:, 0], encoded[:, 1]

    def inverse_transform(self, X):
        """Decode latent vectors: E[x given z].

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Latent vectors, as `transform` gives them.

        Returns
        -------
        X_original : ndarray or DataFrame of shape (n_samples, n_features)
            In the units of the data; a DataFrame if `fit` got one.
        """
        check_is_fitted(self)
        index = X.index if hasattr(X, "iloc") else None  # of a pandas table
        Z = check_array(X, dtype=FLOATS, input_name="X")
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {Z.shape[1]} components, but {type(self).__name__} was fitted with "
                f"n_components={self._n_features_out}."
            )
        module = self._module(Z.dtype)
        Z = Z[:, np.argsort(self._order)]
        return self._container.wrap(apply_to_rows(module.decode, Z, module), index)

    def sample(self, n_samples=1, *, y=None, noise=True, missing=True, random_state=None):
        """Draw new rows: z from the prior, then x given z.

        Parameters
        ----------
        n_samples : int, default=1
        y : scalar or array-like of shape (n_samples,), default=None
            The class of all rows, or of each, if `conditional`. None draws classes as frequent as
            in training.
        noise : bool, default=True
            Draw x given z; False gives its mean, which is what people look at in images.
        missing : bool, default=True
            Leave cells of a table empty as training rows have them; False fills all.
        random_state : int, RandomState instance or None, default=None
            None draws something new at every call.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        check_count(n_samples, "n_samples")
        codes = None
        if y is not None:
            y = np.full(n_samples, y) if np.ndim(y) == 0 else y
            codes = torch.tensor(self._codes(y, n_samples), device=self.device_)
        module, generator = self.module_, make_generator(draw_seed(random_state), self.device_)
        with torch.no_grad(), threads():
            z = module.prior.sample(int(n_samples), generator, codes).cpu().numpy()

        def decode(z):
            output = module.decoder(z)
            likelihood = module.likelihood
            return likelihood.sample(output, generator, missing) if noise else likelihood.mean(output)

        return self._container.wrap(apply_to_rows(decode, z, module), whole=noise)

    def sample_conditional(self, given, n_samples=1, *, y=None, random_state=None):
        """Draw rows of which some cells are given: p(the others given these), without rejection.

        Parameters
        ----------
        given : dict, or array-like or DataFrame of shape (n_rows, n_features)
            What is known: a value for some columns, by name (or by place if X had none); or rows
            whose missing cells are drawn.
        n_samples : int, default=1
            Rows to draw, for each row of `given`.
        y : scalar or array-like of shape (n_rows,), default=None
            Classes, if `conditional`. None runs over the classes, as frequent as in training.
        random_state : int, RandomState instance or None, default=None
            None draws something new at every call.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_rows * n_samples, n_features)
            Those of one row of `given` together, in order. No cell is missing, save in columns that
            had nothing but missing cells in training.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skvae import VAETransformer
        >>> iris = load_iris()
        >>> vae = VAETransformer(2, max_iter=50, random_state=0).fit(iris.data)
        >>> vae.sample_conditional({2: 1.5}, 3, random_state=0)[:, 2]
        array([1.5, 1.5, 1.5])
        """
        check_is_fitted(self)
        check_count(n_samples, "n_samples")
        X = self._read_given(given)
        codes = None
        if y is not None:
            codes = self._codes(np.full(len(X), y) if np.ndim(y) == 0 else y, len(X))
        module, generator = self.module_, make_generator(draw_seed(random_state), self.device_)
        size = min(n_samples, SAMPLES_AT_ONCE)
        n_particles = max(LEAST_PARTICLES, PARTICLES * size)

        def draw(x, codes=None):
            x = module.likelihood.standardize(x)
            return module.condition(x, size, n_particles, generator, codes)

        parts = [
            apply_to_rows(draw, X.astype(self._dtype), module, n_particles, codes)
            for _ in range(-(-n_samples // size))
        ]
        drawn = np.concatenate(parts, 1)[:, :n_samples].reshape(-1, X.shape[1])
        known = np.repeat(X, n_samples, axis=0)
        index = np.repeat(given.index, n_samples) if hasattr(given, "iloc") else None
        return self._container.wrap(np.where(np.isnan(known), drawn, known), index, whole=True)

    def impute(self, X, *, draw=False, n_draws=500, random_state=None):
        """Fill the missing cells of rows by what the others tell.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        draw : bool, default=False
            Draw the missing cells of a row together from p(missing given seen). False takes their
            conditional mean, and of levels the most probable one; it does not depend on which rows
            come together.
        n_draws : int, default=500
            Draws of z for each row.
        random_state : int, RandomState instance or None, default=None
            For `draw`; None draws something new at every call.

        Returns
        -------
        X_filled : ndarray or DataFrame of shape (n_samples, n_features)
            A column that had nothing but missing cells in training stays as it is.
        """
        check_is_fitted(self)
        check_count(n_draws, "n_draws")
        index = X.index if hasattr(X, "iloc") else None  # of a pandas table
        X = self._check_rows(X)
        n_draws = max(2, n_draws)  # half of them from the prior
        seed = draw_seed(random_state) if draw else self._seed
        module, generator = self._module(X.dtype), make_generator(seed, self.device_)

        def fill(x):
            x = module.likelihood.standardize(x)
            if draw:
                return module.condition(x, 1, n_draws, generator)[:, 0]
            return module.expect(x, n_draws, make_generator(seed, self.device_))  # the same for all rows

        holed = np.flatnonzero(np.isnan(X).any(axis=1))
        if len(holed):
            X = X.copy()
            filled = apply_to_rows(fill, X[holed], module, n_draws)
            X[holed] = np.where(np.isnan(X[holed]), filled, X[holed])
        return self._container.wrap(X, index, whole=True)

    def _read_given(self, given):
        """Return what is given as a matrix, NaN where it is not."""
        if not isinstance(given, dict):
            X, _ = self._read(given)
            if isinstance(self._container, Table):
                self._container.refuse_unknown(given, X)
            self.likelihood_.check(X)
            return X
        X = np.full((1, self.n_features_in_), np.nan, dtype=self._dtype)
        names = getattr(self._container, "names", None)  # of a table, which need not be text
        names = names or list(getattr(self, "feature_names_in_", range(self.n_features_in_)))
        for name, value in given.items():
            if name not in names:
                raise ValueError(
                    f"Got given={given!r}, but no column {name!r}; expected some of {names[:20]!r}."
                )
            X[0, names.index(name)] = self._container.encode_value(names.index(name), value)
        self.likelihood_.check(X)
        return X

    def score_samples(self, X, n_draws=100, *, y=None):
        """Estimate log p(x) of each row by importance sampling.

        The draws of z use the same noise for every row, so scores are deterministic and do not
        depend on which rows come together.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        n_draws : int, default=100
            Draws of z per row. The estimate rises toward log p(x) with their number; with one it
            is the sampled evidence lower bound.
        y : array-like of shape (n_samples,), default=None
            Classes, if `conditional`: the score is log p(x given y). None runs over the classes, as
            frequent as in training.

        Returns
        -------
        log_px : ndarray of shape (n_samples,)
            Log-density of the observed cells in nats, in the units of X. Higher is more normal.
        """
        return self._score(VAE.log_marginal, X, n_draws, y)

    def score_cells(self, X, n_draws=100, *, y=None):
        """Divide the score of each row into what its cells and its place in the latent space give.

        log p(x) = E[log p(x given z)] - KL(p(z given x) || p(z)), by the draws of `score_samples`
        with their importance weights: the first term is a sum over cells, each given the others as
        far as z knows of them.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        n_draws : int, default=100
            Draws of z per row.
        y : array-like of shape (n_samples,), default=None
            As in `score_samples`.

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_features + 1)
            Nats, in the units of X; higher is more normal. The cells of X, 0 where one is missing,
            and last the latent term. A row sums to its score.
        """
        return self._score(VAE.log_cells, X, n_draws, y)

    def score(self, X, y=None, sample_weight=None):
        """Return the mean of `score_samples`: nats per row, higher is better.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            Classes, if `conditional`: the mean of log p(x given y). Ignored otherwise.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        log_likelihood : float
        """
        check_is_fitted(self)
        scores = self.score_samples(X, y=y if self._is_conditional else None)
        if sample_weight is None:
            return float(np.mean(scores))
        weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("Got sample_weight with nothing but zeros; at least one must be positive.")
        return float(np.average(scores, weights=weight))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = self.conditional
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self):
        # a module on a GPU would not load on a machine without one
        state = super().__getstate__()
        if "module_" in state and state["device_"].type != "cpu":
            state = {
                **state,
                "module_": copy.deepcopy(state["module_"]).cpu(),
                "device_": torch.device("cpu"),
                "_optimizer_state": None,
            }
        return state

    @property
    def _n_features_out(self):
        return self.module_.latent_dim

    # -- the border itself -------------------------------------------------------------------

    def _fit(self, X, y, sample_weight, validation, *, continuing, passing=False):
        """Check, merge repeated rows, build the model or go on with it, train it."""
        shown = {"X": X, "y": y}
        if not continuing:
            self.likelihood_ = resolve_likelihood(self.likelihood, X, self.categorical_features)
            self._container = None if isinstance(self.likelihood_, Mixed) else Container(X)
        X, y, weight = self._check_training(X, y, sample_weight, first=not continuing)
        amount = len(X) if weight is None else weight.sum()
        if continuing:
            self._check_continuing(X)
        else:
            vars(self).pop("classes_", None)
            if self.conditional:
                check_classification_targets(y)
                self.classes_ = np.unique(y)
        codes = self._codes(y, len(X)) if self.conditional else None
        data = Data(*merge_rows(X, weight, codes))
        amount = max(amount, len(data))  # weights below 1 make no row less than a row
        held_out = self.early_stopping and not passing and validation[0] is None
        with threads(), torch.inference_mode(False), torch.enable_grad():
            if continuing:
                amount += self._amount if passing else 0
            else:
                self._start(data, amount, held_out)
            self._amount = amount
            self._train(data, amount, self._check_validation(*validation), passing, shown)
        return self

    @contextmanager
    def _all_or_nothing(self):
        """Put the estimator back as it was if the block raises."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            during = callback_state(self)
            vars(self).clear()
            vars(self).update(before | during)
            raise

    def _check_training(self, X, y, sample_weight, first):
        y = y if self.conditional else "no_validation"  # what `validate_data` calls rows without y
        X, y = self._read(X, y, reset=first, ensure_min_samples=2 if first else 1)
        if sample_weight is None:
            return X, y, None
        weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("Got sample_weight with nothing but zeros; at least one must be positive.")
        if not weight.all() and not is_streamed(X):
            X, y, weight = X[weight > 0], None if y is None else y[weight > 0], weight[weight > 0]
        return X, y, weight

    def _read(self, X, y="no_validation", *, reset=False, ensure_min_samples=1):
        """Check rows and classes, return them as matrix and array; with `reset`, learn the columns."""
        mixed, unlabelled = isinstance(self.likelihood_, Mixed), isinstance(y, str)
        if mixed and is_frame(X):
            validate_data(self, X, y, reset=reset, skip_check_array=True)
            if len(X) < ensure_min_samples:
                raise ValueError(
                    f"Found array with {len(X)} sample(s) (shape={X.shape}) while a minimum of "
                    f"{ensure_min_samples} is required."
                )
            y = None if unlabelled else column_or_1d(y, warn=True)
            check_consistent_length(X, y)
        else:
            wish = {
                "dtype": FLOATS,
                "ensure_all_finite": "allow-nan",
                "ensure_min_samples": ensure_min_samples,
            }
            checked = validate_data(self, X, y, reset=reset, **wish)
            X, y = (checked, None) if unlabelled else checked
        if mixed and reset:
            self._container = Table(X, self.categorical_features)
            self.likelihood_.set_params(levels=self._container.n_levels)
        return self._container.encode(X), y

    def _check_rows(self, X):
        X, _ = self._read(X)
        self.likelihood_.check(X)
        return X

    def _score(self, density, X, n_draws, y):
        """Apply a method of the model that takes rows, noise, completeness and classes to rows of X."""
        check_is_fitted(self)
        check_count(n_draws, "n_draws")
        X = self._check_rows(X)
        codes = None if y is None else self._codes(y, len(X))
        module = self._module(X.dtype)
        noise = torch.randn(
            (n_draws, 1, module.latent_dim), generator=make_generator(self._seed), dtype=torch.float64
        ).to(self.device_, torch_dtype(X.dtype))

        def of_rows(x, codes=None):
            x, complete = _standardize(module, x)
            return density(module, x, noise, complete, codes)

        return apply_to_rows(of_rows, X, module, n_draws, codes)

    def _check_validation(self, X, y):
        if X is None:
            if y is not None:
                raise ValueError("Got y_val without X_val; expected both or none. Pass X_val too.")
            return None
        try:
            X = self._check_rows(X)
            codes = None if y is None or not self._is_conditional else self._codes(y, len(X))
            return Data(X, y=codes)
        except ValueError as error:
            raise ValueError(f"In X_val, y_val: {error}") from error

    @property
    def _is_conditional(self):
        return hasattr(self, "classes_")

    def _codes(self, y, n_rows):
        """Return the place of each class in `classes_`."""
        if not self._is_conditional:
            raise ValueError(
                f"Got y={y!r} for a model without classes. Set conditional=True and fit it with y."
            )
        y = column_or_1d(y)
        check_consistent_length(y, np.empty(n_rows))
        places = {label: i for i, label in enumerate(self.classes_.tolist())}
        unseen = list(dict.fromkeys(label for label in y.tolist() if label not in places))
        if unseen:
            raise ValueError(
                f"Got y with classes {unseen[:5]!r} that the model was not trained with; "
                f"expected some of {self.classes_[:20].tolist()!r}."
            )
        return np.array([places[label] for label in y.tolist()], dtype=np.int64)

    def _check_continuing(self, X):
        """Refuse what a trained model can no longer change, and rows outside its support."""
        for name, built in self._built_with.items():
            value = getattr(self, name)
            if value is not built and repr(value) != repr(built):
                raise ValueError(
                    f"Got {name}={value!r} for a model that was built with {name}={built!r}; a fit that goes "
                    "on cannot change it. Set warm_start=False, or use a clone."
                )
        self.likelihood_.check(X)

    def _start(self, data, amount, held_out):
        """Build an untrained model of some data, of which `held_out` tells whether a part is set aside."""
        self._built_with = {name: getattr(self, name) for name in STRUCTURE}
        self._seed = draw_seed(self.random_state)
        self._dtype = data.X.dtype
        self.device_ = resolve_device(self.device)
        self.likelihood_.check(data.X)
        self.prior_ = resolve(self.prior, PRIORS)
        self.n_iter_, self.history_, self._optimizer_state = 0, {}, None
        table = isinstance(self.likelihood_, Mixed)
        default = choose_networks(self.hidden_layer_sizes, self.activation, amount, table)
        encoder, decoder = self.encoder or default[0], self.decoder or default[1]
        with global_seed(self._seed):
            observation = self.likelihood_.build(data.X, data.weight)
            n_in, n_out, k = observation.in_features, observation.out_features, self.n_components
            encoder = build_network(encoder, "encoder", n_in, 2 * k)
            decoder = build_network(decoder, "decoder", k, n_out)
            index = self._split(data)[0] if held_out else np.arange(len(data))
            prior = self._build_prior(data, index, observation, encoder)
        self.module_ = VAE(encoder, decoder, observation, prior, k)

    def _split(self, data):
        """Return the indices of the rows to train on and of those set aside for early stopping."""
        return split_rows(len(data), self.validation_fraction, self._seed)

    def _build_prior(self, data, index, observation, encoder):
        """Return the model of p(z), or of p(z given y), which may start from the rows of `index`."""
        encode = partial(posterior_of, encoder)

        def some_rows(n, index):
            x = data.X[index[choose_rows(len(index), n, self._seed)]]
            x = torch.tensor(x, dtype=torch.float64)
            return observation.features(observation.standardize(x))

        if data.y is None:
            return self.prior_.build(self.n_components, encode, partial(some_rows, index=index))
        shares, rows = np.bincount(data.y, data.weight), []
        for code in range(len(shares)):
            of_class = index[data.y[index] == code]
            of_class = of_class if len(of_class) else np.flatnonzero(data.y == code)  # all set aside
            rows.append(partial(some_rows, index=of_class))
        return by_class(self.prior_, shares, self.n_components, encode, rows)

    def _train(self, data, amount, validation, passing, shown):
        """Train a copy of `module_` and set what a fit learns beside it."""
        self.objective_ = resolve(self.objective, OBJECTIVES)
        self.objective_.check(self.beta)
        n_before = 0 if passing else self.n_iter_
        plan = choose_plan(
            self.get_params(),
            self.objective_,
            len(data),
            amount,
            n_before,
            passing,
            isinstance(self.likelihood_, Mixed),
        )
        if plan.epochs == 0:
            return
        self._training_dtype = plan.dtype if self.n_iter_ == 0 else self._training_dtype
        exact, seed = self.module_.likelihood, self._seed + self.n_iter_
        model = copy.deepcopy(self.module_).to(self.device_, self._training_dtype)

        def on_device(data, index=None):
            return load_rows(data, index, exact, self._training_dtype, self.device_)

        index = None
        if validation is not None:
            validation = on_device(validation)
        elif plan.patience is not None:
            index, aside = self._split(data)
            validation = on_device(data, aside)
        rows = on_device(data, index)
        optimizer = make_optimizer(model, plan)
        if passing and self._optimizer_state is not None:
            optimizer.load_state(self._optimizer_state)
        callbacks = EpochCallbacks(self, shown, plan.epochs, lambda: self._moment(model, rows))
        drawing = global_seed(seed) if self.encoder or self.decoder else nullcontext()  # dropout
        with threads(choose_threads(model, plan.batch_size)), drawing:
            history = train(
                model,
                rows,
                self.objective_,
                plan,
                make_generator(seed, self.device_),
                validation=validation,
                optimizer=optimizer,
                on_epoch=callbacks.on_epoch,
            )
        self._optimizer_state = optimizer.state() if passing else None
        self._take_over(copy.deepcopy(model) if plan.compile else model, rows)  # a copy is not compiled
        self.history_ = extend_history(self.history_, history)
        self.n_iter_ = len(self.history_["loss"])
        if not self.n_active_components_ and not passing and are_dependent(data.X):
            warn_of_collapse(self.beta)
        callbacks.end()

    def _take_over(self, model, rows):
        """Keep a trained model in the type of the data, and find the order of its components."""
        exact = self.module_.likelihood
        self.module_ = model.to(torch_dtype(self._dtype)).eval()
        for buffer, source in zip(model.likelihood.buffers(), exact.buffers(), strict=True):
            buffer.copy_(source)
        some = rows.some(ORDER_ROWS)
        x = some.x.to(torch_dtype(self._dtype))
        weight = None if some.weight is None else some.weight.to(x)
        with torch.no_grad():
            information = model.information(x, weight).cpu().numpy()
            self.n_active_components_ = int((model.activity(x, weight) > ACTIVE).sum())
        self._order = np.argsort(-information, kind="stable")
        self.kl_per_component_ = information[self._order]

    def _moment(self, model, rows):
        """Return the attributes of an estimator fitted up to now, for callbacks."""
        moment, model = copy.copy(self), copy.deepcopy(model)
        model.autocast = None
        moment._take_over(model, rows)
        return {key: value for key, value in vars(moment).items() if key not in self.get_params()}

    def _module(self, dtype):
        """Return `module_` computing in `dtype`."""
        module, dtype = self.module_, torch_dtype(dtype)
        return module if torch_dtype(self._dtype) == dtype else copy.deepcopy(module).to(dtype)


def _standardize(module, x):
    """Return standardised rows, and whether no cell is missing: that is worth one look."""
    x = module.likelihood.standardize(x)
    return x, not bool(x.sum().isnan())


def warn_of_collapse(beta):
    """Say that no component is in use, and what to do about it."""
    remedy = f"beta={beta!r} is far too high; lower it" if beta > 1 else "train longer, or lower beta"
    warnings.warn(
        "Columns depend on each other, but no component tells anything about the rows (posterior collapse): "
        f"transform and inverse_transform give nearly the same for all. Likely {remedy}.",
        ConvergenceWarning,
        stacklevel=2,
    )
