"""What checks the shapes and dtypes of signatures while the tests run: beartype, of the functions of a module.

A family is made of closures, and each is made anew with every model: to check them too takes a sixth of the suite's time. The
nightly run does.
"""

import os

from beartype import beartype

EVERY = bool(os.environ.get("AEJAX_TEST_SLOW"))


def checked(function):
    return beartype(function) if EVERY or "<locals>" not in function.__qualname__ else function
