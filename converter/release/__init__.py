"""Several types of one model from one calibration: files that llama.cpp finds by their type, with a model card."""

from converter.release.files import Release, ReleasedFile
from converter.release.make_release import ReleaseProgress, make_release, plan_release

__all__ = ["Release", "ReleaseProgress", "ReleasedFile", "make_release", "plan_release"]
