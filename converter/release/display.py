"""A release on the terminal."""

from pathlib import Path

from converter.release.files import Release, ReleasedFile
from converter.release.make_release import ReleaseProgress
from converter.report import ConversionReport
from converter.report.display import ConversionDisplay, error_table, summary_lines
from evaluation import Measurement


class ReleaseDisplay(ConversionDisplay, ReleaseProgress):
    """Prints progress to standard output, and a summary of each file. A context: the bar is there inside it."""

    def __init__(self, *, with_table: bool = False) -> None:
        super().__init__()
        self._with_table = with_table

    def file_done(self, report: ConversionReport) -> None:
        lines = [*summary_lines(report), *(error_table(report) if self._with_table else ())]
        for line in (*lines, ""):
            self._bar.print(line)

    def file_kept(self, file: ReleasedFile) -> None:
        self._bar.print(f"{file.paths[0]} is kept from the run that broke off")

    def base_run(self, base: Path) -> None:
        self._bar.begin("evaluating the base", None)

    def model_run(self, model: Path, number: int, count: int) -> None:
        self._bar.begin(f"evaluating [{number}/{count}]", None)

    def measured(self, measurement: Measurement) -> None:
        d = measurement.divergence
        self._bar.print(f"{measurement.model.path.name}: mean KLD {d.kld.value:.5f} ± {d.kld.error:.5f}")


def release_lines(release: Release) -> list[str]:
    """All files with their sizes, the card, and how to put them on the hub."""
    lines = [
        f"{file.paths[0]}: {file.nbytes / 1e6:,.1f} MB, {file.bits_per_weight:.3f} bits a weight"
        for file in release.files
    ]
    if release.projector:
        lines.append(f"projector: {release.projector.text}")
    lines.append(f"model card: {release.card}")
    if release.repository is None:
        lines.append("note: the card names no base_model, as the model does not say where on the hub it is from")
    return [*lines, "to put them on the Hugging Face Hub, with your name for USER:", f"  {release.upload_command}"]
