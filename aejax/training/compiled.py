"""The cache of compiled programs, which JAX keeps between processes."""

from __future__ import annotations

import shutil
import sys
import warnings
from contextlib import suppress
from typing import Any

import jax

from aejax.data import cache_folder


def keep_compiled() -> None:
    """Keeps compiled programs between processes, in the user's own cache folder."""
    folder = cache_folder() / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warned: list[str] = []
    show = warnings.showwarning

    def once(message: Warning | str, *rest: Any, **more: Any) -> None:
        """JAX warns of each program that it cannot read or write, and never replaces one that is damaged."""
        if "persistent compilation cache" not in str(message):
            show(message, *rest, **more)
        elif not warned:
            warned.append(str(message))
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
            why = " ".join(str(message).split()).partition(": ")[2]
            print(f"compiled programs in {folder} cannot be used ({why}); they are made again", file=sys.stderr)

    warnings.showwarning = once
