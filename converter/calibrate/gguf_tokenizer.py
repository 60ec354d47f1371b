"""A tokenizer from the vocabulary in a GGUF.

transformers can make one too, but reads the whole file three times on the way (8 s each for a vocabulary of 152,000),
and needs minutes for the merges of a SentencePiece vocabulary, which sentencepiece itself does without.
"""

import struct
from collections.abc import Callable
from typing import Any

import sentencepiece
from gguf import GGUFValueType
from sentencepiece import sentencepiece_model_pb2 as spm
from transformers.integrations.ggml import GGUF_TO_FAST_CONVERTERS, convert_gguf_tokenizer

from converter.errors import CalibrationError
from gguf_files.source import Source

Encode = Callable[[str], list[int]]
"""From text to token ids, without any marks before or after."""

_UNKNOWN, _CONTROL = spm.ModelProto.SentencePiece.UNKNOWN, spm.ModelProto.SentencePiece.CONTROL

_NUMBERS = {GGUFValueType.INT32: "i", GGUFValueType.UINT32: "I", GGUFValueType.FLOAT32: "f"}


def gguf_tokenizer(source: Source) -> Encode:
    """Raises CalibrationError for kinds of vocabularies that cannot be read."""
    kind = source.value("tokenizer.ggml.model")
    tokens = _array(source, "tokenizer.ggml.tokens")
    if kind == "llama":
        return _sentencepiece(source, tokens)
    if kind == "gpt2":
        return _byte_pairs(source, tokens)
    raise CalibrationError(
        f"the vocabulary in {source.paths[0]} is of kind {kind!r}, which calibration cannot use; give the Hugging Face "
        "folder in place of the GGUF"
    )


def bos_tokens(source: Source) -> list[int]:
    """What llama.cpp puts before a text: the BOS token, or nothing."""
    told = source.value("tokenizer.ggml.add_bos_token")
    wanted = told if isinstance(told, bool) else source.value("tokenizer.ggml.model") == "llama"
    bos = source.value("tokenizer.ggml.bos_token_id")
    return [bos] if wanted and isinstance(bos, int) else []


def _byte_pairs(source: Source, tokens: list[Any]) -> Encode:
    vocabulary = {
        "tokens": [str(t) for t in tokens],
        "token_type": _array(source, "tokenizer.ggml.token_type"),
        "merges": _array(source, "tokenizer.ggml.merges"),
        "tokenizer_type": "gpt2",
        "bos_token_id": source.value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.value("tokenizer.ggml.eos_token_id"),
    }
    name = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}.get(source.architecture, source.architecture)
    tokenizer, _ = convert_gguf_tokenizer(name if name in GGUF_TO_FAST_CONVERTERS else "gpt2", vocabulary)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _sentencepiece(source: Source, tokens: list[Any]) -> Encode:
    scores = _array(source, "tokenizer.ggml.scores")
    kinds = _array(source, "tokenizer.ggml.token_type")
    unknown = _unknown_token(source, tokens, kinds)
    model = spm.ModelProto()
    for index, (token, score, kind) in enumerate(zip(tokens, scores, kinds, strict=True)):
        # what a user may write, and what only the model may, are never made of letters; one token is the unknown one,
        # whatever the vocabulary calls it (Gemma 3's is a control token)
        named = _UNKNOWN if index == unknown else _CONTROL if kind == _UNKNOWN else kind
        model.pieces.add(piece=token, score=score, type=named)
    model.trainer_spec.model_type = spm.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    prefix = source.value("tokenizer.ggml.add_space_prefix")
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = prefix is not False
    model.normalizer_spec.remove_extra_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    return lambda text: list(processor.encode(text))


def _unknown_token(source: Source, tokens: list[Any], kinds: list[Any]) -> int:
    """Raises CalibrationError where no token says that it stands for what the vocabulary lacks."""
    told = source.value("tokenizer.ggml.unknown_token_id")
    if isinstance(told, int) and 0 <= told < len(tokens):
        return told
    named = [index for index, kind in enumerate(kinds) if kind == _UNKNOWN] or [
        index for index, token in enumerate(tokens) if token == "<unk>"
    ]
    if not named:
        raise CalibrationError(
            f"the vocabulary in {source.paths[0]} has no token for unknown text, so it cannot be calibrated; give the "
            "Hugging Face folder in its place"
        )
    return named[0]


def _array(source: Source, key: str) -> list[Any]:
    """The values of an array of texts or numbers. Raises CalibrationError where there is none."""
    entry = next((entry for entry in source.metadata if entry.key == key), None)
    if entry is None:
        raise CalibrationError(
            f"{source.paths[0]} has no {key}, so it cannot be calibrated; give the Hugging Face folder in its place"
        )
    start = 8 + len(key.encode()) + 4  # the key with its length, and the type
    kind, count = struct.unpack_from("<IQ", entry.raw, start)
    start += 12
    if kind in _NUMBERS:
        return list(struct.unpack_from(f"<{count}{_NUMBERS[GGUFValueType(kind)]}", entry.raw, start))
    if kind != GGUFValueType.STRING:
        raise CalibrationError(f"{source.paths[0]} is damaged: {key} holds neither texts nor numbers")
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from("<Q", entry.raw, start)
        found.append(entry.raw[start + 8 : start + 8 + size].decode(errors="replace"))
        start += 8 + size
    return found
