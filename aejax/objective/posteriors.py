"""Approximate posteriors q(z|x), parametrized by the encoder's output.

All functions take ONE example, like likelihoods: `h` [width(d)] is the encoder's output for a latent of d dimensions, and
`params` the posterior's own parameters ({} for Gaussian ones). Log-densities are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.types import Params

LOG_2PI = math.log(2 * math.pi)

LOG_VARIANCE = 12.0
"""Bound on the magnitude of a log-variance before exp: standard deviations from .0025 to 400."""


class Posterior(NamedTuple):
    """An approximate posterior q(z|x) as pure functions.

    Example:
        >>> posterior = diagonal()
        >>> z, log_q = posterior.draw({}, jax.random.key(0), jnp.zeros(posterior.width(2)))
        >>> z.shape, log_q.shape
        ((2,), ())
    """

    name: str
    width: Callable[[int], int]
    """d -> the number of encoder outputs."""
    init: Callable[[Key[Array, ""], int], Params]
    """(key, d) -> params, a dict."""
    draw: Callable[[Params, Key[Array, ""], Array], tuple[Array, Array]]
    """(params, key, h) -> (z [d], log q(z|x) [])."""
    mean: Callable[[Params, Array], Array]
    """(params, h) -> [d], the deterministic code: E[z|x] of a Gaussian; of a flow, the image of its Gaussian's mean."""
    log_prob: Callable[[Params, Array, Array], Array] | None = None
    """(params, h, z) -> log q(z|x) []; None if the flow cannot be inverted cheaply."""
    kl: Callable[[Params, Array], Array] | None = None
    """(params, h) -> [m], KL(q(z|x) ‖ N(0, I)): one part per dimension if these are independent, else m = 1. None if there is no
    closed form; the KL is then estimated from draws."""
    moments: Callable[[Params, Array], tuple[Array, Array]] | None = None
    """(params, h) -> (means [d], variances [d]); None unless the dimensions are independent Gaussians."""


@described
def diagonal(closed_form: bool = True) -> Posterior:
    """Diagonal Gaussian N(μ, diag σ²) with h = (μ, raw log σ²) (Kingma & Welling 2013).

    Its KL to N(0, I) is ½ Σ_j (μ_j² + σ_j² − log σ_j² − 1), their Appendix B. Without `closed_form` the KL is estimated from
    draws, like any other divergence. The gradient is then noisier, and an importance-weighted bound with one sample equals the
    ELBO.

    Args:
        closed_form: Whether the KL to N(0, I) is exact.

    Returns:
        A posterior with 2d numbers for d dimensions.

    Example:
        >>> diagonal().kl({}, jnp.array([1.0, 0.0])).tolist()  # μ = 1, σ = 1
        [0.5]
    """

    def moments(params: Params, h: Array) -> tuple[Array, Array]:
        mu, raw = jnp.split(h, 2)
        return mu, jnp.exp(bounded(raw))

    def draw(params: Params, key: Key[Array, ""], h: Array) -> tuple[Array, Array]:
        mu, raw = jnp.split(h, 2)
        log_variance = bounded(raw)
        epsilon = jax.random.normal(key, mu.shape, mu.dtype)
        return mu + jnp.exp(0.5 * log_variance) * epsilon, _normal_log_prob(epsilon, log_variance)

    def log_prob(params: Params, h: Array, z: Array) -> Array:
        mu, raw = jnp.split(h, 2)
        log_variance = bounded(raw)
        return _normal_log_prob((z - mu) * jnp.exp(-0.5 * log_variance), log_variance)

    def kl(params: Params, h: Array) -> Array:
        mu, raw = jnp.split(h, 2)
        log_variance = bounded(raw)
        return 0.5 * (jnp.square(mu) + jnp.exp(log_variance) - log_variance - 1.0)

    return Posterior(
        "diagonal",
        lambda d: 2 * d,
        lambda key, d: {},
        draw,
        lambda params, h: jnp.split(h, 2)[0],
        log_prob,
        kl if closed_form else None,
        moments,
    )


@described
def full_rank() -> Posterior:
    """Gaussian N(μ, LLᵀ) with any covariance.

    h holds μ, the raw log L_jj², and the rows of the lower triangular L below its diagonal. It has no `moments`.

    Returns:
        A posterior with 2d + d(d - 1)/2 numbers for d dimensions.

    Example:
        >>> full_rank().width(4)
        14
    """

    def parts(h: Array) -> tuple[Array, Array, Array]:
        d = latent_of(h.shape[0])
        mu, raw, below = h[:d], h[d : 2 * d], h[2 * d :]
        log_scale = 0.5 * bounded(raw)
        rows, columns = np.tril_indices(d, -1)
        return mu, log_scale, jnp.diag(jnp.exp(log_scale)).at[rows, columns].set(below)

    def draw(params: Params, key: Key[Array, ""], h: Array) -> tuple[Array, Array]:
        mu, log_scale, factor = parts(h)
        epsilon = jax.random.normal(key, mu.shape, mu.dtype)
        return mu + _times(factor, epsilon), _normal_log_prob(epsilon, 2.0 * log_scale)

    def log_prob(params: Params, h: Array, z: Array) -> Array:
        mu, log_scale, factor = parts(h)
        epsilon = _solved(factor, z - mu)
        return _normal_log_prob(epsilon, 2.0 * log_scale)

    def kl(params: Params, h: Array) -> Array:
        mu, log_scale, factor = parts(h)
        return 0.5 * (
            jnp.sum(jnp.square(mu), keepdims=True)
            + jnp.sum(jnp.square(factor)).reshape(1)
            - 2.0 * jnp.sum(log_scale, keepdims=True)
            - mu.shape[0]
        )

    def latent_of(width: int) -> int:
        return (math.isqrt(9 + 8 * width) - 3) // 2

    return Posterior(
        "full_rank",
        lambda d: 2 * d + d * (d - 1) // 2,
        lambda key, d: {},
        draw,
        lambda params, h: h[: latent_of(h.shape[0])],
        log_prob,
        kl,
    )


def _solved(factor: Float[Array, "d d"], y: Float[Array, " d"]) -> Float[Array, " d"]:
    """Solves Lε = y for a lower triangular L with a positive diagonal, row by row.

    LAPACK's batched solver distributes the batch over XLA's threads and waits for them on one of these (jaxlib 0.10): two
    solves in one program on two cores deadlock.
    """

    def solve(epsilon: Array, row: tuple[Array, Array, Array]) -> tuple[Array, None]:
        i, of, value = row
        return epsilon.at[i].set((value - jnp.sum(of * epsilon)) / of[i]), None

    d = len(y)
    return jax.lax.scan(solve, jnp.zeros_like(y), (jnp.arange(d), factor, y), unroll=min(d, 8))[0]


class Flow(NamedTuple):
    """An invertible map of a latent. Its parameters are trained; the context is what differs between examples."""

    init: Callable[[Key[Array, ""], int, int], Params]
    """(key, d, size of the context) -> params."""
    forward: Callable[[Params, Array, Array], tuple[Array, Array]]
    """(params, z [d], context [c]) -> (z' [d], log |det ∂z'/∂z| [])."""


@described
def flow(flows: Sequence[Flow], context: int) -> Posterior:
    """A diagonal Gaussian transformed by `flows`, one after the other (Rezende & Mohamed 2015, eq. 13).

    The encoder gives `context` more numbers, which each flow receives. Without them the map would be the same for all examples,
    could be absorbed into prior and decoder, and would not make the posterior richer.

    Args:
        flows: Flows such as `planar()` or `inverse_autoregressive()`.
        context: How many numbers the encoder gives to the flows.

    Returns:
        A posterior with 2d + `context` numbers for d dimensions.

    Raises:
        UsageError: There is no flow, or `context` is below 1.

    Example:
        >>> posterior = flow([planar(), planar()], context=8)
        >>> params = posterior.init(jax.random.key(0), 2)
        >>> z, log_q = posterior.draw(params, jax.random.key(1), jnp.zeros(posterior.width(2)))
        >>> z.shape
        (2,)
    """
    if not flows or context < 1:
        raise UsageError(f"flow({len(flows)} flows, context={context}): at least one flow, and one number of context")
    base = diagonal()

    def init(key: Key[Array, ""], d: int) -> dict[str, dict[str, Array]]:
        return {
            f"flow_{i}": f.init(k, d, context) for i, (f, k) in enumerate(zip(flows, jax.random.split(key, len(flows))))
        }

    def carry(params: Params, z: Array, seen: Array) -> tuple[Array, Array]:
        log_det = jnp.zeros((), z.dtype)
        for i, f in enumerate(flows):
            z, more = f.forward(params[f"flow_{i}"], z, seen)
            log_det = log_det + more
        return z, log_det

    def split(h: Array) -> tuple[Array, Array]:
        return (h[: h.shape[0] - context], h[h.shape[0] - context :])

    def draw(params: Params, key: Key[Array, ""], h: Array) -> tuple[Array, Array]:
        gaussian, seen = split(h)
        z, log_q = base.draw({}, key, gaussian)
        z, log_det = carry(params, z, seen)
        return z, log_q - log_det

    def mean(params: Params, h: Array) -> Array:
        gaussian, seen = split(h)
        return carry(params, base.mean({}, gaussian), seen)[0]

    return Posterior("flow", lambda d: base.width(d) + context, init, draw, mean)


@described
def planar() -> Flow:
    """Planar flow z' = z + û tanh(wᵀz + b) (Rezende & Mohamed 2015, §4.1, A.1).

    û is such that wᵀû ≥ −1, which makes the map invertible; u, w and b are linear in the context.

    Returns:
        A flow.

    Example:
        >>> params = planar().init(jax.random.key(0), 2, 3)  # 2 dimensions, 3 numbers of context
        >>> z, log_det = planar().forward(params, jnp.zeros(2), jnp.zeros(3))
        >>> z.shape, log_det.shape
        ((2,), ())
    """

    def init(key: Key[Array, ""], d: int, context: int) -> dict[str, Array]:
        k_u, k_w, k_context = jax.random.split(key, 3)
        scale = 1.0 / math.sqrt(d)
        return {
            "u": scale * jax.random.normal(k_u, (d,)),
            "w": scale * jax.random.normal(k_w, (d,)),
            "b": jnp.zeros(()),
            "context": 0.1 * jax.random.normal(k_context, (context, 2 * d + 1)) / math.sqrt(max(1, context)),
        }

    def forward(params: Params, z: Array, context: Array) -> tuple[Array, Array]:
        d, shift = z.shape[0], _times(params["context"].T, context)
        u, w, b = params["u"] + shift[:d], params["w"] + shift[d : 2 * d], params["b"] + shift[2 * d]
        along = jnp.sum(u * w)
        u = u + (jax.nn.softplus(along) - 1.0 - along) * w / (jnp.sum(jnp.square(w)) + 1e-8)
        t = jnp.tanh(jnp.sum(w * z) + b)
        return z + u * t, jnp.log(jnp.abs(1.0 + (1.0 - jnp.square(t)) * jnp.sum(u * w)) + 1e-8)

    return Flow(init, forward)


@described
def inverse_autoregressive(hidden: int = 128, reverse: bool = False) -> Flow:
    """Inverse autoregressive flow z' = s ⊙ z + (1 − s) ⊙ m (Kingma et al. 2016, eq. 13-14).

    m and s, a sigmoid, are outputs of a net with one hidden layer, in which a dimension depends on the earlier ones only, by
    the masks of MADE (Germain et al. 2015, eq. 12-13). It starts near the identity: s is about .88.

    Args:
        hidden: Width of the hidden layer.
        reverse: Whether dimensions are ordered from the last to the first; alternate it from flow to flow.

    Returns:
        A flow.

    Raises:
        UsageError: `hidden` is below 1.

    Example:
        >>> layers = [inverse_autoregressive(64, reverse=i % 2 == 1) for i in range(2)]
        >>> flow(layers, context=16).width(8)
        32
    """
    if hidden < 1:
        raise UsageError(f"inverse_autoregressive(hidden={hidden}): at least one unit")

    def masks(d: int) -> tuple[np.ndarray, np.ndarray]:
        order = np.arange(d)[::-1] if reverse else np.arange(d)
        degrees = np.arange(hidden) * d // hidden - 1  # -1: depends on the context only
        into, out_of = order[:, None] <= degrees[None, :], degrees[:, None] < order[None, :]
        return into.astype(np.float32), out_of.astype(np.float32)

    def init(key: Key[Array, ""], d: int, context: int) -> dict[str, Array]:
        k_in, k_context, k_out = jax.random.split(key, 3)
        return {
            "in": jax.random.normal(k_in, (d, hidden)) / math.sqrt(d),
            "context": jax.random.normal(k_context, (context, hidden)) / math.sqrt(max(1, context)),
            "hidden_bias": jnp.zeros(hidden),
            "out": 0.1 * jax.random.normal(k_out, (2, hidden, d)) / math.sqrt(hidden),
            "out_bias": jnp.stack([jnp.zeros(d), jnp.full(d, 2.0)]),
        }

    def forward(params: Params, z: Array, context: Array) -> tuple[Array, Array]:
        into, out_of = masks(z.shape[0])
        features = _times((params["in"] * into).T, z) + params["hidden_bias"] + _times(params["context"].T, context)
        features = jnp.tanh(features)
        m, raw = (_times((w * out_of).T, features) + b for w, b in zip(params["out"], params["out_bias"]))
        s = jax.nn.sigmoid(raw)
        return s * z + (1.0 - s) * m, jnp.sum(jax.nn.log_sigmoid(raw))

    return Flow(init, forward)


@described
def real_nvp(hidden: int = 128, reverse: bool = False) -> Flow:
    """Affine coupling layer z'_b = e^s ⊙ z_b + t (Dinh et al. 2017, eq. 4-8).

    s and t are outputs of a net with one hidden layer, given the context and the other half z_a, which is left unchanged. z_b
    is the second half, one longer than the first for odd d. Log-scales stay within ±2. It starts near the identity. Unlike
    autoregressive flows it is inverted as fast as it is evaluated.

    Args:
        hidden: Width of the hidden layer.
        reverse: Whether z_b is the first half; alternate it from flow to flow.

    Returns:
        A flow.

    Raises:
        UsageError: `hidden` is below 1.

    Example:
        >>> layers = [real_nvp(64, reverse=i % 2 == 1) for i in range(2)]
        >>> flow(layers, context=16).width(8)
        32
    """
    if hidden < 1:
        raise UsageError(f"real_nvp(hidden={hidden}): at least one unit")

    def init(key: Key[Array, ""], d: int, context: int) -> dict[str, Array]:
        k_in, k_context, k_out = jax.random.split(key, 3)
        kept, moved = d // 2, d - d // 2
        return {
            "in": jax.random.normal(k_in, (kept, hidden)) / math.sqrt(max(1, kept)),
            "context": jax.random.normal(k_context, (context, hidden)) / math.sqrt(max(1, context)),
            "hidden_bias": jnp.zeros(hidden),
            "out": 0.1 * jax.random.normal(k_out, (2, hidden, moved)) / math.sqrt(hidden),
            "out_bias": jnp.zeros((2, moved)),
        }

    def forward(params: Params, z: Array, context: Array) -> tuple[Array, Array]:
        turned = z[::-1] if reverse else z
        kept, moved = jnp.split(turned, [z.shape[0] // 2])
        features = _times(params["in"].T, kept) + params["hidden_bias"] + _times(params["context"].T, context)
        features = jnp.tanh(features)
        raw, t = (_times(w.T, features) + b for w, b in zip(params["out"], params["out_bias"]))
        s = 2.0 * jnp.tanh(raw / 2.0)
        out = jnp.concatenate([kept, jnp.exp(s) * moved + t])
        return out[::-1] if reverse else out, jnp.sum(s)

    return Flow(init, forward)


def bounded(raw: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A log-variance within ±LOG_VARIANCE, by tanh: a clipped value would have zero gradient."""
    return LOG_VARIANCE * jnp.tanh(raw / LOG_VARIANCE)


def _normal_log_prob(epsilon: Float[Array, " d"], log_variance: Float[Array, " d"]) -> Float[Array, ""]:
    """log N(z; μ, σ²) of z = μ + σε, summed over dimensions."""
    return -0.5 * jnp.sum(jnp.square(epsilon) + log_variance + LOG_2PI)


def _times(matrix: Float[Array, "m d"], vector: Float[Array, " d"]) -> Float[Array, " m"]:
    return jnp.einsum("md,d->m", matrix, vector)
