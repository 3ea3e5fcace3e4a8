"""The small language model of the inference course: trained by us on the documentation that comes with Python.

import academy_lm

model = academy_lm.load()  # or load("draft"), a much smaller one that speaks the same tokens
tokens = torch.tensor([academy_lm.encode("The list of ")])
logits = model.forward(tokens)
"""

from academy_lm.files import load
from academy_lm.model import Model
from academy_lm.text import END, decode, encode

__all__ = ["END", "Model", "decode", "encode", "load"]
