"""What stops a build."""


class BuildError(Exception):
    """One line: what was got, what was expected, what to do."""
