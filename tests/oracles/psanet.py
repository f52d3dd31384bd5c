"""Point-wise Spatial Attention in NumPy, from Zhao et al., section 3, and the layer list of its section 4.

z_i = 1/N Σ_j a^collect_j(i) x_j  beside  1/N Σ_j a^distribute_i(j) x_j.
Position i predicts a mask of weights centred on it. Read as *collect*, cell (k, l) is what i takes from the position
under that cell; read as *distribute*, what i gives to it. Cells that fall outside the map are dropped; positions that
no cell reaches keep a logit of zero, or have no weight at all with `outside="exclude"`. Compact masks have a cell for
every position of the map. The softmax runs over the positions that features come from, in both readings.
"""

from __future__ import annotations

import numpy as np


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    size: tuple[int, int] | None = None,
    branches: str = "both",
    compact: bool = False,
    mask: tuple[int, int] | None = None,
    shrink: int = 2,
    softmax: bool = True,
    normalization: float | None = 1.0,
    outside: str = "zero",
    reduction: int = 4,
    fusion: str = "add",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    height, width = x.shape[2:]
    if mask is None:
        rows, columns = (-(-length // shrink) for length in size)
        mask = (rows, columns) if compact else (2 * rows - 1, 2 * columns - 1)
    cells = mask[0] * mask[1]
    rows, columns = -(-height // shrink), -(-width // shrink)  # (length - 1) // shrink + 1

    mixed = []
    directions = ("collect", "distribute") if branches == "both" else (branches,)
    for direction, end in zip(directions, ("", "_p"), strict=False):
        value = unit(x, state, f"reduce{end}", training)
        assert value.shape[1] == max(1, x.shape[1] // reduction)
        value = resize(value, rows, columns)
        hidden = unit(value, state, f"attention{end}", training)
        logits = np.einsum("oc,bchw->bohw", state[f"attention{end}.3.weight"][:, :, 0, 0], hidden)
        assert logits.shape[1] == cells
        weights, inside = lay_out(logits, direction, mask, compact)
        weights = weigh(weights, inside, softmax, outside)
        weights = weights / (cells if normalization is None else normalization)
        out = np.zeros_like(value)
        for source in range(rows * columns):
            for target in range(rows * columns):
                features = value[:, :, source // columns, source % columns]
                out[:, :, target // columns, target % columns] += weights[:, source, target, None] * features
        mixed.append(out)
    update = unit(np.concatenate(mixed, 1), state, "proj", training)
    update = resize(update, height, width)
    return x + update if fusion == "add" else np.concatenate((x, update), 1)


def lay_out(logits: np.ndarray, direction: str, mask: tuple[int, int], compact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Masks by cell to a table by (source, target), and which of its entries a mask reaches."""
    batch, _, height, width = logits.shape
    table = np.zeros((batch, height * width, height * width))
    inside = np.zeros((height * width, height * width), bool)
    for h in range(height):
        for w in range(width):
            here = h * width + w
            for i in range(mask[0]):
                for j in range(mask[1]):
                    if compact:
                        row, column = i, j
                    else:
                        row, column = h + i - (mask[0] - 1) // 2, w + j - (mask[1] - 1) // 2
                    if not (0 <= row < height and 0 <= column < width):
                        continue
                    there = row * width + column
                    source, target = (there, here) if direction == "collect" else (here, there)
                    table[:, source, target] = logits[:, i * mask[1] + j, h, w]
                    inside[source, target] = True
    return table, inside


def weigh(table: np.ndarray, inside: np.ndarray, softmax: bool, outside: str) -> np.ndarray:
    if not softmax:
        return table
    weights = np.exp(table - table.max(1, keepdims=True))
    if outside == "exclude":
        weights = weights * inside
    return weights / weights.sum(1, keepdims=True)


def unit(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """1×1 convolution without bias, batch normalisation, ReLU."""
    x = np.einsum("oc,bchw->bohw", state[f"{name}.0.weight"][:, :, 0, 0], x)
    mean, variance = state[f"{name}.1.running_mean"], state[f"{name}.1.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:  # one value has no statistics (named on the card)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale, shift = state[f"{name}.1.weight"], state[f"{name}.1.bias"]
    each = (slice(None), None, None)
    x = (x - mean[each]) / np.sqrt(variance[each] + 1e-5) * scale[each] + shift[each]
    return np.maximum(x, 0)


def resize(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, the corners of the two maps on each other."""
    out = np.empty((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            row = i * (x.shape[2] - 1) / (height - 1) if height > 1 else 0.0
            column = j * (x.shape[3] - 1) / (width - 1) if width > 1 else 0.0
            top, left = int(row), int(column)
            bottom, right = min(top + 1, x.shape[2] - 1), min(left + 1, x.shape[3] - 1)
            down, over = row - top, column - left
            upper = x[:, :, top, left] * (1 - over) + x[:, :, top, right] * over
            lower = x[:, :, bottom, left] * (1 - over) + x[:, :, bottom, right] * over
            out[:, :, i, j] = upper * (1 - down) + lower * down
    return out
