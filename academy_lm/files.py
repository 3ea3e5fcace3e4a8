"""Where the trained weights are; trains them once where no image brought them along."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from academy_lm.model import Model

IMAGE = Path("/opt/academy/lm")  # what the images of notebooks and sandboxes have
BUILT = Path(__file__).parent.parent / "build" / "academy-lm"  # of a checkout, where notebooks run without Docker
SHAPE = ("layers", "heads", "kv_heads", "width", "vocabulary", "longest")
_TEXTS = {
    "ko": "언어 모델을 처음 한 번 학습시켜요. 2분쯤 걸려요: {folder}",
    "en": "Training the language model, this once: about two minutes: {folder}",
}


def load(name: str = "base", dtype: torch.dtype = torch.float32) -> Model:
    """A trained model: ``base``, or ``draft``, which is much smaller and worse. Every call gives one of its own.

    Raises:
        FileNotFoundError: there is no model of that name.
    """
    path = folder() / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"There is no model {name!r} in {path.parent}; there are base and draft.")
    with np.load(path, allow_pickle=False) as stored:
        model = Model(**{key: int(stored[key]) for key in SHAPE}, dtype=dtype)
        for key, weight in model.weights().items():
            weight.copy_(torch.from_numpy(stored[key]))
    return model


def save(model: Model, path: Path) -> None:
    arrays = {key: weight.detach().numpy() for key, weight in model.weights().items()}
    np.savez(path, **arrays, **{key: np.array(getattr(model, key)) for key in SHAPE})  # type: ignore[arg-type]


def folder() -> Path:
    """The folder of the weights: $ACADEMY_LM, the image's, or one in the checkout's ``build``, filled at the first use."""
    if named := os.environ.get("ACADEMY_LM"):
        return Path(named)
    return IMAGE if IMAGE.is_dir() else _cached()


def _cached() -> Path:
    found = BUILT / digest()
    if found.is_dir():
        return found
    found.parent.mkdir(parents=True, exist_ok=True)
    with found.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.is_dir():
            for left in found.parent.glob("unfinished-*"):  # by one that was ended
                shutil.rmtree(left, ignore_errors=True)
            _train(found)
    return found


def _train(target: Path) -> None:
    from academy_lm import train  # here, so that its optimisers are imported only where they are used

    language = "en" if os.environ.get("ACADEMY_LANGUAGE") == "en" else "ko"

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    say(_TEXTS[language].format(folder=target))
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=target.parent))
    try:
        train.train(unfinished, report=say)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def digest() -> str:
    """Of the sources that decide what the weights become."""
    sources = [Path(__file__).parent / f"{name}.py" for name in ("files", "model", "text", "train")]
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:12]
