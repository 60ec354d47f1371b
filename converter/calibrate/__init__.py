"""Runs a model on text and measures the second moments of what flows into its tensors."""

from converter.calibrate.calibrate import calibrate
from converter.calibration_options import CalibrationOptions

__all__ = ["CalibrationOptions", "calibrate"]
