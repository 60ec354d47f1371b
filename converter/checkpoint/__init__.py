"""What a conversion keeps of its work until it is whole, so that one that broke off is gone on with."""

from converter.checkpoint.facts import conversion_facts, file_facts, hub_facts, statistics_facts
from converter.checkpoint.tensor_journal import TensorJournal
from converter.checkpoint.work_folder import WorkFolder, check_resumable, work_folder

__all__ = [
    "TensorJournal",
    "WorkFolder",
    "check_resumable",
    "conversion_facts",
    "file_facts",
    "hub_facts",
    "statistics_facts",
    "work_folder",
]
