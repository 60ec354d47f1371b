"""A SentencePiece vocabulary read from a GGUF gives the ids of the tokenizer that it came from."""

import io
from pathlib import Path

import pytest
import sentencepiece
from gguf import GGUFWriter, TokenType

from converter.calibrate.gguf_tokenizer import gguf_tokenizer
from converter.errors import CalibrationError
from gguf_files.source import Source, open_gguf
from tests.samples.gguf_samples import tiny_model, write_gguf

TEXT = "the quick brown fox jumps over the lazy dog, and 漢字 with it"
UNKNOWN = 3


@pytest.fixture(scope="module")
def trained() -> sentencepiece.SentencePieceProcessor:
    """Byte-pair, as Llama 2 and Gemma have it; the unknown token is not the first."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, "pack my box with five dozen liquor jugs"] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=UNKNOWN,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def vocabulary(
    path: Path, trained: sentencepiece.SentencePieceProcessor, unknown: TokenType, told: bool, name: str = "<unk>"
) -> Source:
    """A GGUF with that vocabulary, whose unknown token is called `name` and marked as `unknown`."""

    def kind(index: int) -> TokenType:
        if index == UNKNOWN:
            return unknown
        if trained.is_control(index):
            return TokenType.CONTROL
        return TokenType.BYTE if trained.is_byte(index) else TokenType.NORMAL

    def metadata(writer: GGUFWriter) -> None:
        size = trained.vocab_size()
        writer.add_tokenizer_model("llama")
        writer.add_token_list([name if i == UNKNOWN else trained.id_to_piece(i) for i in range(size)])
        writer.add_token_scores([trained.get_score(i) for i in range(size)])
        writer.add_token_types([kind(i) for i in range(size)])
        if told:
            writer.add_unk_token_id(UNKNOWN)

    return open_gguf(write_gguf(path, tiny_model(), metadata))


@pytest.mark.parametrize("unknown", [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.NORMAL], ids=lambda one: one.name)
@pytest.mark.parametrize("told", [False, True])
def test_the_unknown_token_may_be_of_any_kind(
    tmp_path: Path, trained: sentencepiece.SentencePieceProcessor, unknown: TokenType, told: bool
) -> None:
    encode = gguf_tokenizer(vocabulary(tmp_path / "model.gguf", trained, unknown, told))
    assert encode(TEXT) == trained.encode(TEXT)


def test_a_vocabulary_without_one_is_refused(tmp_path: Path, trained: sentencepiece.SentencePieceProcessor) -> None:
    source = vocabulary(tmp_path / "model.gguf", trained, TokenType.NORMAL, told=False, name="none")
    with pytest.raises(CalibrationError, match="has no token for unknown text"):
        gguf_tokenizer(source)
