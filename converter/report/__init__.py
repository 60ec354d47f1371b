"""What a conversion did: records, their JSON, the metadata of the file, and what is shown meanwhile."""

from converter.report.conversion_progress import ConversionProgress
from converter.report.records import ConversionReport, FoldRecord, StageClock, TensorRecord, report_path

__all__ = [
    "ConversionProgress",
    "ConversionReport",
    "FoldRecord",
    "StageClock",
    "TensorRecord",
    "report_path",
]
