"""Errors that a user of the patch tool can cause. It prints them and exits with status 1."""

from eoq_formats.errors import EoqError


class PatchError(EoqError):
    """A tree cannot be patched or reverted as asked."""
