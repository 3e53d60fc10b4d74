"""Strict JAX for every test: no implicit broadcasting of ranks, no implicit promotion of types, eight CPU devices.

Shapes and dtypes in signatures are checked, see `checked.py`. Caches go to a folder of the test session's own.
"""

import gc
import os
import tempfile
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

_session = tempfile.TemporaryDirectory(prefix="aejax-tests-")
os.environ["AEJAX_CACHE"] = f"{_session.name}/cache"
os.environ["TFDS_DATA_DIR"] = f"{_session.name}/tfds"
os.environ["XDG_STATE_HOME"] = f"{_session.name}/state"
# Most tests run what they compile a few times: half of the suite's time would be XLA's, making it fast. What trains for long
# is marked `optimized`.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Many tests compile the same small programs.
jax.config.update("jax_compilation_cache_dir", f"{_session.name}/cache/compiled")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Tracing makes millions of objects that live: looking for garbage among them every 700 takes the longer the more there are.
gc.set_threshold(50_000, 20, 100)

install_import_hook("aejax", "checked.checked").__enter__()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    jax.config.update("jax_disable_most_optimizations", item.get_closest_marker("optimized") is None)


ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT
