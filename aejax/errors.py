"""What a user can cause: one exception, which the command line prints as one line and answers with exit code 2."""


class UsageError(Exception):
    """A mistake the user can mend. The message says what is wrong, where, and how to mend it, on one line."""
