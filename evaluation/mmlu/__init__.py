"""MMLU against a running llama-server: accuracy, and the perplexity of the EWQ paper (section 5)."""

from evaluation.mmlu.ask import Answered, ask_all
from evaluation.mmlu.questions import Question, prompt, read_questions
from evaluation.mmlu.scores import Scores, score
from evaluation.mmlu.server import Server

__all__ = ["Answered", "Question", "Scores", "Server", "ask_all", "prompt", "read_questions", "score"]
