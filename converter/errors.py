"""What can go wrong in a conversion through no fault of the code. Tools print the message and exit with status 1.

Models that cannot be read are gguf_files.errors, outputs that cannot be written output_files.errors.
"""

from eoq_formats.errors import EoqError
from gguf_files.errors import SourceError


class OptionError(EoqError):
    """An option that means nothing, or that does not fit the model at hand."""


class BudgetError(OptionError):
    """A budget that the smallest types do not keep to."""

    def __init__(self, budget: int, least: int, most: int) -> None:
        """Bytes of all tensors: those of the budget, in the smallest types, and as the source has them."""
        super().__init__(
            f"the budget of {budget / 1e6:,.1f} MB for tensors is too small: in the smallest types they take "
            f"{least / 1e6:,.1f} MB"
        )
        self.least, self.most = least, most


class HfConversionError(SourceError):
    """llama.cpp's converter could not turn the Hugging Face folder into a GGUF."""


class HubError(SourceError):
    """A model of the Hugging Face Hub cannot be had, or is of a kind that is not downloaded."""


class StatisticsError(EoqError):
    """A file of statistics is missing, damaged, or belongs to another model."""


class ClusterError(EoqError):
    """A Ray cluster cannot be reached, has not what rounding needs, or has lost a tensor."""


class ResumeError(EoqError):
    """An interrupted conversion cannot be gone on with."""


class CalibrationError(EoqError):
    """The model cannot be run on the calibration text, or there is too little of it."""
