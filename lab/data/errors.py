"""The error of a data set."""


class DataError(ValueError):
    """A data set cannot be had; the message says where it was looked for and how to get it."""
