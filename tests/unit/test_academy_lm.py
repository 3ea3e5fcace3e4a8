"""The language model of the inference course: its text, its pieces, its training, and where its weights are found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies
from torch import Tensor

import academy_lm
from academy_lm import files, train
from academy_lm.model import Model
from academy_lm.text import VOCABULARY, documents

TINY = {"tiny": train.Recipe(layers=2, heads=2, width=16, steps=40, batch=4)}


class Kept:
    """The simplest cache: everything so far, joined anew at every step."""

    def __init__(self) -> None:
        self.length = 0
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self.layers:
            k, v = (torch.cat([old, new], dim=2) for old, new in zip(self.layers[layer], (k, v), strict=True))
        self.layers[layer] = (k, v)
        return k, v

    def advance(self, t: int) -> None:
        self.length += t


def exact(kv_heads: int | None = None) -> Model:
    return Model(layers=3, heads=4, width=32, longest=40, kv_heads=kv_heads, dtype=torch.float64, seed=3)


def drawn(*shape: int) -> Tensor:
    return torch.randint(0, VOCABULARY, shape)


@given(strategies.text())
def test_any_text_comes_back(text: str) -> None:
    tokens = academy_lm.encode(text)
    assert all(0 <= token < academy_lm.END for token in tokens)
    assert academy_lm.decode(tokens) == text
    assert academy_lm.decode([*tokens, academy_lm.END]) == text


def test_korean_comes_back_and_half_a_syllable_does_not_fail() -> None:
    text = "연속 배칭은 GPU를 놀리지 않아요 ½ 🙂\0"
    assert academy_lm.decode(torch.tensor(academy_lm.encode(text))) == text
    assert academy_lm.decode(academy_lm.encode("가")[:2]) == "�"


def test_nothing_held_out_is_learnt() -> None:
    learnt, held_out = (bytes(tokens) for tokens in documents())
    assert len(learnt) > 5 * len(held_out) > 100_000
    assert learnt[-1] == held_out[-1] == academy_lm.END
    known, unknown = ({part for part in re.split(rb"\n\n|\xff", tokens) if part} for tokens in (learnt, held_out))
    assert known.isdisjoint(unknown)


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
def test_a_later_token_changes_nothing_before_it(kv_heads: int | None) -> None:
    model, tokens = exact(kv_heads), drawn(2, 12)
    before = model.forward(tokens)
    tokens[:, 7] = (tokens[:, 7] + 1) % VOCABULARY
    after = model.forward(tokens)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax(dim=-1).min() > 1e-6


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
@pytest.mark.parametrize("pieces", [[1] * 12, [5, 1, 6], [12]])
def test_a_cache_changes_no_logits(kv_heads: int | None, pieces: list[int]) -> None:
    model, tokens, cache = exact(kv_heads), drawn(2, 12), Kept()
    found = torch.cat([model.forward(part, cache) for part in tokens.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(found, model.forward(tokens))
    assert cache.length == 12
    assert cache.layers[0][0].shape == (2, kv_heads or 4, 12, 8)
    assert (model.calls, model.tokens) == (len(pieces) + 1, 48)


def test_rows_may_stand_at_positions_of_their_own() -> None:
    model, tokens = exact(), drawn(2, 3)
    together = model.embed(tokens, torch.tensor([4, 9]))
    torch.testing.assert_close(together[0], model.embed(tokens[:1], 4)[0])
    torch.testing.assert_close(together[1], model.embed(tokens[1:], 9)[0])


def test_the_loss_in_training_is_that_of_the_readable_forward() -> None:
    model, tokens = exact(), drawn(3, 13)
    expected = torch.nn.functional.cross_entropy(model.forward(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(train._loss(model, tokens, 0), expected)


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="5 heads"):
        Model(heads=5)
    with pytest.raises(ValueError, match="3 KV heads"):
        Model(heads=4, kv_heads=3)


def test_training_learns_repeats_itself_and_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    first = train.train(tmp_path / "one", TINY, said.append)["tiny"]
    again = train.train(tmp_path / "two", TINY, said.append)["tiny"]
    assert first["validation"] < np.log(VOCABULARY) - 0.5
    assert round(first["validation"], 3) == round(again["validation"], 3)
    assert any("validation loss" in line for line in said)
    assert json.loads((tmp_path / "one" / "losses.json").read_text())["tiny"]["validation"] == first["validation"]
    monkeypatch.setenv("ACADEMY_LM", str(tmp_path / "one"))
    model = academy_lm.load("tiny")
    assert (model.layers, model.heads, model.kv_heads, model.width, model.longest) == (2, 2, 2, 16, train.LONGEST)
    assert model.calls == model.tokens == 0
    held_out = torch.tensor(documents()[1])
    assert train.evaluate(model, held_out) == pytest.approx(first["validation"], abs=1e-3)
    assert not any(weight.requires_grad for weight in model.weights().values())
    model.head.zero_()
    assert academy_lm.load("tiny").head.any()
    assert academy_lm.load("tiny", dtype=torch.float64).head.dtype == torch.float64
    with pytest.raises(FileNotFoundError, match="no model 'huge'"):
        academy_lm.load("huge")


def test_weights_are_read_without_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACADEMY_LM", str(tmp_path))
    np.savez(tmp_path / "base.npz", layers=np.array([{"not": "plain"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        academy_lm.load()


def test_without_an_image_it_is_trained_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.delenv("ACADEMY_LM", raising=False)
    monkeypatch.setattr(files, "BUILT", tmp_path / "academy-lm")
    monkeypatch.setattr(files, "IMAGE", tmp_path / "no-image")
    monkeypatch.setattr(train.train, "__defaults__", (TINY, print))
    with ThreadPoolExecutor(3) as pool:
        sums = list(pool.map(lambda _: float(academy_lm.load("tiny").head.sum()), range(3)))
    assert len(set(sums)) == 1
    said = capfd.readouterr().err
    assert said.count(str(tmp_path)) == said.count("validation loss") == 1
    assert sorted(path.name for path in (tmp_path / "academy-lm").iterdir()) == [files.digest(), f"{files.digest()}.lock"]


def test_a_failed_training_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BUILT", tmp_path / "academy-lm")
    monkeypatch.setattr(files, "IMAGE", tmp_path / "no-image")
    monkeypatch.delenv("ACADEMY_LM", raising=False)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(train, "train", full)
    with pytest.raises(OSError, match="No space"):
        academy_lm.load()
    assert [path.suffix for path in (tmp_path / "academy-lm").iterdir()] == [".lock"]


def test_it_needs_nothing_of_the_academy() -> None:
    code = "import sys, academy_lm; sys.exit(any(name.split('.')[0] in ('academy', 'grading') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
