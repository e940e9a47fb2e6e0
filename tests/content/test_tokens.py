"""Texts as tokens: padded on the right, cut at the limit, never without a token."""

import numpy as np
import pytest

from recbole_perpeft.content import ContentError
from recbole_perpeft.content import tokens as tokens_module
from recbole_perpeft.content.tokens import ensure_tokens

from .conftest import byte_tokenizer

TEXTS = ["", "shoe", "a long title"]


@pytest.fixture
def make(tmp_path):
    def call(tokenizer, texts=TEXTS, max_length=8):
        store, reused = ensure_tokens(
            tmp_path / "cache", ["[PAD]", "a", "b"], texts, tokenizer, max_length, show_progress=False
        )
        return np.load(store / "tokens.npy"), np.load(store / "lengths.npy"), reused

    return call


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_padded_on_the_right_and_cut(padding_side: str, make):
    tokenizer = byte_tokenizer(pad_token="<pad>")
    tokenizer.padding_side = padding_side
    tokens, lengths, _ = make(tokenizer)

    assert (tokens.dtype, lengths.dtype) == (np.int32, np.int32)
    assert tokens.shape == (3, 8)
    assert tokenizer.decode(tokens[1, :4]) == "shoe"
    assert tokens[1, 4:].tolist() == [tokenizer.pad_token_id] * 4
    assert tokenizer.decode(tokens[2]) == "a long t"
    assert lengths.tolist() == [1, 4, 8]  # the empty text keeps one token
    assert tokenizer.padding_side == padding_side


def test_end_token_pads_where_there_is_no_padding_token(make):
    tokenizer = byte_tokenizer(eos_token="<end>")
    tokens, lengths, _ = make(tokenizer)
    assert tokens[1, 4:].tolist() == [tokenizer.eos_token_id] * 4
    assert lengths.tolist() == [1, 4, 8]
    assert tokenizer.pad_token is None


def test_nothing_to_pad_with(make):
    with pytest.raises(ContentError, match="neither a padding token nor an end token"):
        make(byte_tokenizer(unk_token="<unk>"))


def test_reused_although_a_call_leaves_traces_in_the_tokenizer(make):
    tokenizer = byte_tokenizer(pad_token="<pad>")
    assert make(tokenizer)[2] is False
    tokenizer(["something", "else"], padding=True, truncation=True, max_length=3)
    assert make(tokenizer)[2] is True


def test_killed_run_begins_anew(make, monkeypatch):
    monkeypatch.setattr(tokens_module, "CHUNK", 1)
    tokenizer = byte_tokenizer(pad_token="<pad>")
    usual_call = type(tokenizer).__call__

    def killed_at_the_last_text(self, texts, **options):
        if texts == TEXTS[-1:]:
            raise KeyboardInterrupt
        return usual_call(self, texts, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(tokenizer), "__call__", killed_at_the_last_text)
        with pytest.raises(KeyboardInterrupt):
            make(tokenizer)
    tokens, lengths, reused = make(tokenizer)
    assert not reused
    assert lengths.tolist() == [1, 4, 8]
    assert [tokenizer.decode(tokens[1, :4]), tokenizer.decode(tokens[2])] == ["shoe", "a long t"]


@pytest.mark.parametrize(
    "change",
    [
        {"texts": ["", "shoe", "another title"]},
        {"max_length": 9},
        {"tokenizer": byte_tokenizer(pad_token="<pad>", unk_token="<unk>")},
    ],
)
def test_made_again_after_a_change(change: dict, make):
    settings = {"tokenizer": byte_tokenizer(pad_token="<pad>"), "texts": TEXTS, "max_length": 8}
    make(**settings)
    assert make(**{**settings, **change})[2] is False
