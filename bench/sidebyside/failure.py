"""What ends the measurement of one contender, but not the benchmark."""


class Failure(Exception):
    """A contender did not do what was asked of it. The message says what, for the report."""
