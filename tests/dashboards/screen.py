"""What a page of `AppTest` shows, read back."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import torch

PROMPT = "the cat sat on the mat the cat"


def said(elements):
    """The texts of messages, as a reader sees them."""
    return [re.sub(r"\\(.)", r"\1", element.value) for element in elements]


def table(app, column):
    """The first table on the page that has this column."""
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def result_tables(app, result):
    """The tables of a result, which stand behind its checks, by name."""
    frames = [frame.value for frame in app.dataframe]
    first = next(i for i, frame in enumerate(frames) if "outcome" in frame.columns) + 1
    return dict(zip(result.tables, frames[first:], strict=True))


def figures(app):
    """The plotly figures of a page, arrays decoded, by the end of their key."""
    return {part.proto.id.split("-", 2)[-1]: decoded(json.loads(part.proto.spec))
            for part in app.get("plotly_chart")}  # fmt: skip


def decoded(value):
    if isinstance(value, dict) and "bdata" in value:
        flat = np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]))
        return flat.reshape([int(n) for n in value.get("shape", str(flat.size)).split(",")])
    if isinstance(value, dict):
        return {name: decoded(each) for name, each in value.items()}
    return [decoded(each) for each in value] if isinstance(value, list) else value


def html(app):
    return "\n".join(part.proto.body for part in app.get("html"))


def direct_logits(model, prompt=PROMPT, prepend_bos=True):
    tokens = model.to_tokens(prompt, prepend_bos=prepend_bos)
    with torch.no_grad():
        return tokens[0], model(tokens)[0]
