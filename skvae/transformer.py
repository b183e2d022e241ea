"""VAETransformer: the border between scikit-learn's words and torch's."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from ._arrays import apply_to_rows, torch_dtype
from ._compat import CallbackSupportMixin, fit_context, with_callbacks
from ._fitting import fit_model
from ._holes import keep, repeat
from ._random import draw_seed, make_generator
from ._reading import (
    FLOATS,
    complete_given,
    has_classes,
    read_classes,
    read_given,
    read_rows,
    read_weights,
)
from ._threads import as_told, threads, tiny_as_zero
from ._typing import Array, Builder, Device, RandomState, Rows, Table
from ._validation import PARAMETER_CONSTRAINTS
from ._values import check_count
from .likelihoods import Likelihood
from .model import VAE, posterior_of
from .objectives import Objective
from .priors import Prior

__all__ = ["VAETransformer"]

FAR = 1e15  # scales from the mean: beyond, squares in single precision soon overflow
FARTHEST = 1e150  # that rows are taken to be: beyond, so do squares in double precision
PRIOR_SHARE = 0.25  # of the draws of a score
SAMPLES_AT_ONCE = 200  # of one row of what is given
PARTICLES, LEAST_PARTICLES = 32, 200  # draws to choose from for each sample, and in all


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
        encoder and decoder: with ``prior="normal"`` probabilistic PCA or factor analysis. "auto": two
        layers of 128 below 1,000 rows, of 192 below 5,000 but under "mixed", else of 256.
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
        "negative_binomial", "categorical", "mixed", "heterogeneous", or an instance from
        `skvae.likelihoods`. "auto" is "mixed" for DataFrames with a column of other than numbers,
        "bernoulli" for boolean NumPy arrays and "gaussian" for all others.
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
        Epochs at most. "auto": 500 if all rows make one batch, else what gives 1,500 to 2,000 steps,
        more from 1,500 rows on, and under "mixed" 600 to some thousands; `n_iter_` tells.
    batch_size : int or "auto", default="auto"
        Rows per step, about, as the batches of an epoch are equally large. "auto": all rows if up to
        256 are distinct, else 128; 512 under "mixed" from more than 10,000 rows.
    learning_rate : float or "auto", default="auto"
        Peak rate of Adam's one-cycle schedule. "auto": 0.006; under "mixed" 0.003 from batches
        of 512 rows on, 0.015 if all rows make one.
    weight_decay : float or "auto", default="auto"
        Precision of a Gaussian prior on the networks' matrices, per row: half of it times their
        squares is added to the loss. "auto" is less the fewer columns and the more rows there are; under
        "mixed" up to 1,000 rows at least 0.05.
    early_stopping : bool, default=False
        Once the loss of held-out rows no longer improves, go back to the best weights and on to the
        end of the learning rate's schedule within half as many epochs as it took, then keep the best.
    validation_fraction : float, default=0.1
        Share of the rows held out for that, unless `fit` gets X_val.
    n_iter_no_change : int, default=10
        Epochs without improvement that are waited for; none is counted during the KL warm-up.
    tol : float, default=1e-4
        Least improvement, in nats per row.
    warm_start : bool, default=False
        Go on from the weights and the standardisation of the last `fit`. As in
        `HistGradientBoostingClassifier`, `max_iter` counts the epochs of all fits together, so
        raise it to train on; for new rows see `partial_fit`. What the model is built of cannot
        change, `device` and `precision` can.
    device : str or torch.device, default="auto"
        Where to compute, in float64 as well, which Apple's GPUs ("mps") have not; "auto" takes CUDA
        where there is one.
    precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        Type that training computes in; "auto" is float64 if all rows make one batch, but under "mixed", else
        float32, on a GPU with products in TensorFloat-32 unless torch has been told otherwise.
        "bfloat16" is float32 with the networks' products in bfloat16, for wide networks and large
        batches on hardware that has it. Whatever it is, float64 rows are encoded and scored in float64,
        float32 rows in float32.
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
        where there are validation rows. During a fit it grows, for callbacks to look at.
    n_iter_ : int
        Epochs run.
    kl_per_component_ : ndarray of shape (n_components,)
        What each component tells about a row, in nats, falling; near 0: unused.
    n_active_components_ : int
        Components in use: those whose posterior mean has a variance over rows above 0.01.
    likelihood_ : Likelihood
        What `likelihood` stands for.
    prior_ : Prior
        What `prior` stands for.
    objective_ : Objective
        What `objective` stands for.
    classes_ : ndarray of shape (n_classes,)
        The classes of y; only if `conditional`.
    device_ : torch.device
        Where it was computed.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
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
        n_components: int = 16,
        *,
        hidden_layer_sizes: Sequence[int] | Literal["auto"] = "auto",
        activation: str = "silu",
        encoder: Builder | None = None,
        decoder: Builder | None = None,
        likelihood: str | Likelihood = "auto",
        categorical_features: Any = "auto",
        prior: str | Prior = "mixture",
        conditional: bool = False,
        objective: str | Objective = "elbo",
        beta: float = 1.0,
        kl_warmup: float = 0.3,
        max_iter: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float | Literal["auto"] = "auto",
        weight_decay: float | Literal["auto"] = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        device: Device = "auto",
        precision: Literal["auto", "float32", "float64", "bfloat16"] = "auto",
        compile: bool = False,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
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
    def fit(
        self,
        X: Rows,
        y: Rows | None = None,
        sample_weight: Rows | None = None,
        X_val: Rows | None = None,
        y_val: Rows | None = None,
    ) -> Self:
        """Learn the latent space of X.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Numbers, NaN where a cell is missing; a DataFrame may hold text, categories, booleans,
            datetimes and timedeltas as well. Images are flattened to rows of pixels. A `numpy.memmap`
            of float32 or float64 that takes more than 1 GB as float32 stays in its file.
        y : array-like of shape (n_samples,), default=None
            Classes, if `conditional`; ignored otherwise.
        sample_weight : array-like of shape (n_samples,), default=None
            How many equal rows a row stands for. Weights are relative in the loss; their sum, or if it
            is more the number of distinct rows, is the amount of data, which the defaults go by.
        X_val : array-like of shape (n_val_samples, n_features), default=None
            Rows to evaluate every epoch; with `early_stopping` the ones to stop by, instead of a
            part of X.
        y_val : array-like of shape (n_val_samples,), default=None
            Their classes, if `conditional`; None takes log p(x) over all classes.

        Returns
        -------
        self : VAETransformer

        Raises
        ------
        ValueError
            If X, y or a parameter is not what it may be, parameters do not go together, or the loss
            is no longer finite. A fit that fails leaves the estimator as it was.
        KeyboardInterrupt
            If interrupted in the first epoch. Later, what was learned so far is kept, with a warning.

        Warns
        -----
        ConvergenceWarning
            If the loss was still falling fast, no component is in use, the fit was interrupted, or
            `max_iter` is less than the epochs that a warm start goes on from.
        """
        continuing = self.warm_start and hasattr(self, "module_")
        fit_model(self, X, y, sample_weight, (X_val, y_val), continuing=continuing)
        return self

    @with_callbacks
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Rows, y: Rows | None = None, sample_weight: Rows | None = None) -> Self:
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
        continuing = hasattr(self, "module_")
        fit_model(self, X, y, sample_weight, (None, None), continuing=continuing, passing=True)
        return self

    def transform(self, X: Rows) -> Table:
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

    def posterior(self, X: Rows) -> tuple[Array, Array]:
        """Encode rows: mean and standard deviation of q(z given x).

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        mean, std : ndarray of shape (n_samples, n_components)
        """
        check_is_fitted(self)
        rows = read_rows(self, X)
        module = self._module(rows.dtype)

        def encode(x: torch.Tensor) -> torch.Tensor:
            posterior = posterior_of(module.encoder, module.likelihood.look(x))
            return torch.stack((posterior.mean, posterior.std), 1)

        encoded = apply_to_rows(encode, rows, module, view=True)[:, :, self._order]
        return encoded[:, 0], encoded[:, 1]

    def inverse_transform(self, X: Rows) -> Table:
        """Decode latent vectors: E[x given z].

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Latent vectors, as `transform` gives them.

        Returns
        -------
        X_original : ndarray or DataFrame of shape (n_samples, n_features)
            In the units of the data; a DataFrame if `fit` got one. Means of whole numbers are rounded in
            a table of mixed types, else they are floats.
        """
        check_is_fitted(self)
        index = getattr(X, "index", None) if hasattr(X, "iloc") else None  # of a pandas table
        Z = check_array(X, dtype=FLOATS, input_name="X")
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {Z.shape[1]} components, but {type(self).__name__} was fitted with "
                f"n_components={self._n_features_out}."
            )
        module = self._module(Z.dtype)
        Z = Z[:, np.argsort(self._order)]
        return self._container.wrap(apply_to_rows(module.decode, Z, module), index)

    def sample(
        self,
        n_samples: int = 1,
        *,
        y: Any = None,
        noise: bool = True,
        missing: bool = True,
        random_state: RandomState = None,
    ) -> Table:
        """Draw new rows: z from the prior, then x given z.

        Each row is a draw from the model. Rows of a table that come from one call are spread evenly, so
        their shares and means are nearer to the model's than those of as many independent rows.

        Parameters
        ----------
        n_samples : int, default=1
        y : scalar or array-like of shape (n_samples,), default=None
            The class of all rows, or of each, if `conditional`. None draws classes as frequent as
            in training.
        noise : bool, default=True
            Draw x given z; False gives its mean, which is what people look at in images.
        missing : bool, default=True
            Under "mixed", leave cells empty as training rows have them; False fills all. Other
            likelihoods draw no empty cells.
        random_state : int, RandomState instance or None, default=None
            None draws something new at every call.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        check_count(n_samples, "n_samples")
        codes: Any = read_classes(self, y, n_samples, may_be_one=True)
        codes = None if codes is None else torch.tensor(codes, device=self.device_)
        module, generator = self.module_, make_generator(draw_seed(random_state))
        with torch.no_grad(), as_told(), threads(), tiny_as_zero():
            z = (
                module.prior.sample(int(n_samples), generator, codes)
                .to(torch_dtype(self._dtype))
                .cpu()
                .numpy()
            )

        def decode(z: torch.Tensor) -> Any:
            output, likelihood = module.decoder(z), module.likelihood
            if noise:
                return likelihood.sample(output, generator, missing)
            return likelihood.mean(output)

        values = apply_to_rows(decode, z, module)
        return self._container.wrap(self._container.settle(values) if noise else values, whole=noise)

    def sample_conditional(
        self, given: Any, n_samples: int = 1, *, y: Any = None, random_state: RandomState = None
    ) -> Table:
        """Draw rows of which some cells are given: p(the others given these), without rejection.

        Parameters
        ----------
        given : dict, or array-like or DataFrame of shape (n_rows, n_features)
            What is known: a value for some columns, by name (or by place if X had none); or rows
            whose missing cells are drawn, as are the columns that a DataFrame lacks.
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
        given = complete_given(self, given)
        X = read_given(self, given)
        codes = read_classes(self, y, len(X), may_be_one=True)
        choose = self._for_draws(X.dtype)
        generator = make_generator(draw_seed(random_state))
        size = min(n_samples, SAMPLES_AT_ONCE)
        n_particles = max(LEAST_PARTICLES, PARTICLES * size)
        copies = self.module_.copies(n_particles)

        def draw(x: torch.Tensor, codes: Any = None) -> torch.Tensor:
            module, standard = choose(x)
            return module.condition(standard, size, n_particles, generator, codes, known=x)

        parts = [
            apply_to_rows(draw, X.astype(self._dtype), self.module_, copies, codes)
            for _ in range(-(-n_samples // size))
        ]
        drawn = self._container.settle(np.concatenate(parts, 1)[:, :n_samples].reshape(-1, X.shape[1]))
        known = np.repeat(X, n_samples, axis=0)
        index = np.repeat(given.index, n_samples) if hasattr(given, "iloc") else None
        drawn = self._container.wrap(np.where(np.isnan(known), drawn, known), index, whole=True)
        if not isinstance(given, dict):
            return keep(repeat(given, n_samples), drawn)
        return self._container.put_given(drawn, given)

    def impute(
        self, X: Rows, *, draw: bool = False, n_draws: int = 500, random_state: RandomState = None
    ) -> Table:
        """Fill the missing cells of rows by what the others tell.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        draw : bool, default=False
            Draw the missing cells of a row together from p(missing given seen). False takes their
            conditional mean, and of levels the most probable one; it does not depend on which rows
            come together, up to the rounding of float32, in which draws are computed.
        n_draws : int, default=500
            Draws of z for each row; fewer than 4 count as 4.
        random_state : int, RandomState instance or None, default=None
            For `draw`; None draws something new at every call.

        Returns
        -------
        X_filled : ndarray or DataFrame of shape (n_samples, n_features)
            A column that had nothing but missing cells in training stays as it is.
        """
        check_is_fitted(self)
        check_count(n_draws, "n_draws")
        index = getattr(X, "index", None) if hasattr(X, "iloc") else None  # of a pandas table
        filled = read_rows(self, X).copy()
        n_draws = max(4, n_draws)  # of several sources
        seed = draw_seed(random_state) if draw else self._seed
        choose, generator = self._for_draws(filled.dtype), make_generator(seed)

        def fill(x: torch.Tensor) -> torch.Tensor:
            module, standard = choose(x)
            if draw:
                return module.condition(standard, 1, n_draws, generator, search=True, known=x)[:, 0]
            return module.expect(standard, n_draws, make_generator(seed), known=x)  # the same for all rows

        holed = np.flatnonzero(np.isnan(filled).any(axis=1))
        if len(holed):
            rows = filled[holed]
            copies = self.module_.copies(n_draws)
            drawn = self._container.settle(apply_to_rows(fill, rows, self.module_, copies))
            filled[holed] = np.where(np.isnan(rows), drawn, rows)
        return keep(X, self._container.wrap(filled, index, whole=True))

    def score_samples(self, X: Rows, n_draws: int = 100, *, y: Rows | None = None) -> Array:
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

    def score_cells(self, X: Rows, n_draws: int = 100, *, y: Rows | None = None) -> Array:
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

    def score(self, X: Rows, y: Rows | None = None, sample_weight: Rows | None = None) -> float:
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
        scores = self.score_samples(X, y=y if has_classes(self) else None)
        if sample_weight is None:
            return float(np.sum(scores / len(scores)))  # their sum may be too large
        weight = read_weights(sample_weight, X)
        counts = weight > 0
        return float(np.sum(scores[counts] * (weight[counts] / weight.sum())))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = self.conditional
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # a module on a GPU would not load on a machine without one
        state: dict[str, Any] = super().__getstate__()
        if "module_" in state and state["device_"].type != "cpu":
            state = {
                **state,
                "module_": copy.deepcopy(state["module_"]).cpu(),
                "device_": torch.device("cpu"),
                "_optimizer_state": None,
            }
        return state

    @property
    def _n_features_out(self) -> int:
        return int(self.module_.latent_dim)

    def _score(self, density: Callable[..., torch.Tensor], X: Any, n_draws: int, y: Rows | None) -> Array:
        """Apply a method of the model that takes rows, noise, completeness and classes to rows of X."""
        check_is_fitted(self)
        check_count(n_draws, "n_draws")
        X = read_rows(self, X)
        codes = read_classes(self, y, len(X))
        scores = self._score_rows(density, X, n_draws, codes)
        lost = ~np.isfinite(scores.reshape(len(X), -1)).all(axis=1)
        if lost.any():  # so far off that squares in single precision overflow
            rows, codes = X[lost].astype(np.float64), None if codes is None else codes[lost]
            limit = np.finfo(scores.dtype).max / (X.shape[1] + 1)
            again = self._score_rows(density, rows, n_draws, codes)
            held = np.nan_to_num(again, nan=-limit).clip(-limit, limit)
            scores[lost] = np.where(np.isneginf(again), again, held)  # a level of probability 0
        return scores

    @as_told()
    def _score_rows(
        self, density: Callable[..., torch.Tensor], X: Array, n_draws: int, codes: Array | None
    ) -> Array:
        counts = getattr(self.module_.likelihood, "feature_kind", None) == "log1p"
        module = self._module(np.float64 if counts else X.dtype)  # terms of large counts cancel
        dtype = torch.float64 if counts else torch_dtype(X.dtype)
        generator, n_there = make_generator(self._seed), int(PRIOR_SHARE * n_draws)
        shape = (n_draws - n_there, 1, module.latent_dim)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.device_, dtype)
        there = None
        if n_there:  # in double, as other numbers are drawn in single
            there = self._module(np.float64).prior.sample(n_there, generator)[:, None].to(dtype)

        def of_rows(x: torch.Tensor, codes: Any = None) -> torch.Tensor:
            standard, complete = _standardize(module, x.to(dtype))
            return density(module, standard, noise, there, complete, codes).to(x.dtype)

        return apply_to_rows(of_rows, X, module, module.copies(n_draws), codes)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_order")  # there is a module as soon as a fit begins

    def _for_draws(self, dtype: Any) -> Callable[[torch.Tensor], tuple[VAE, torch.Tensor]]:
        """Return what chooses the model and standardises rows: single precision unless cells are far off."""
        single = self._module(dtype).in_single()  # draws need no more digits

        def choose(x: torch.Tensor) -> tuple[VAE, torch.Tensor]:
            standard = single.likelihood.standardize(x)
            if not (standard.abs() > FAR).any():
                return single, standard
            double = self._module(np.float64)
            return double, double.likelihood.standardize(x.double()).clamp(-FARTHEST, FARTHEST)

        return choose

    def _module(self, dtype: Any) -> VAE:
        """Return `module_` computing in `dtype`."""
        module: VAE = self.module_
        dtype = torch_dtype(dtype)
        return module if torch_dtype(self._dtype) == dtype else copy.deepcopy(module).to(dtype)


def _standardize(module: VAE, x: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Return standardised rows, and whether no cell is missing: that is worth one look."""
    x = module.likelihood.standardize(x)
    far = min(FARTHEST, torch.finfo(x.dtype).max)
    x = x.clamp(-far, far)
    return x, not bool(x.sum().isnan())
