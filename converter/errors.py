"""What can go wrong in a conversion through no fault of the code. Tools print the message and exit with status 1."""

from eoq_formats.errors import EoqError


class OptionError(EoqError):
    """An option that means nothing, or that does not fit the model at hand."""


class SourceError(EoqError):
    """The model to convert is missing, damaged, or of a kind that cannot be converted."""


class QuantizedSourceError(SourceError):
    """The model to convert is quantised already, and requantising was not asked for."""


class HfConversionError(SourceError):
    """llama.cpp's converter could not turn the Hugging Face folder into a GGUF."""


class StatisticsError(EoqError):
    """A file of statistics is missing, damaged, or belongs to another model."""


class CalibrationError(EoqError):
    """The model cannot be run on the calibration text, or there is too little of it."""


class TargetError(EoqError):
    """The output file cannot be written where it should go."""
