"""What becomes of the accuracy when one logit is replaced by a combination of the others."""

from __future__ import annotations

import numpy as np


class Replacement:
    """Accuracy on held-out samples when one logit is replaced; one pass over them for each.

    Attributes:
        z: logits [samples, classes]; ``y`` their labels.
    """

    def __init__(self, z: np.ndarray, y: np.ndarray) -> None:
        self.z, self.y = z, y
        self.top = z.argmax(1)
        rows = np.arange(len(z))
        self.best = z[rows, self.top]
        rest = z.copy()
        rest[rows, self.top] = -np.inf
        self.second = rest.argmax(1)
        self.next = rest[rows, self.second]

    def accuracy(self, label: int, theta: np.ndarray | None, shift: float) -> tuple[float, float]:
        """(accuracy of the class, overall accuracy) with its logit = z theta + shift.

        Args:
            label: the class whose logit is replaced.
            theta: [classes], own entry 0; None keeps the logit.
            shift: constant of the combination.
        """
        winner = self.top
        if theta is not None:
            support = np.flatnonzero(theta)
            new = self.z[:, support] @ theta[support] + shift
            rival = np.where(self.top == label, self.second, self.top)
            height = np.where(self.top == label, self.next, self.best)
            ahead = (new > height) | ((new == height) & (label < rival))
            winner = np.where(ahead, label, rival)
        right = winner == self.y
        return float(right[self.y == label].mean()), float(right.mean())


def split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two stratified halves; a class with one sample is in both."""
    rng = np.random.default_rng(seed)
    first, second = [], []
    for c in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == c))
        half = len(own) // 2
        first.append(own[half:])
        second.append(own[:half] if half else own)
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))
