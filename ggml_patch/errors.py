"""Errors that a user of the patch tool, or of the build that uses it, can cause. Tools print them and exit with 1."""


class PatchToolError(Exception):
    """Base of all errors here; the message says what is wrong, where, and what to do."""


class PatchError(PatchToolError):
    """A tree cannot be patched or reverted as asked."""


class FetchError(PatchToolError):
    """A package cannot be downloaded or is not what it should be."""


class BuildError(PatchToolError):
    """llama.cpp cannot be built."""
