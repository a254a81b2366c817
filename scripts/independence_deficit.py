"""Independence deficit of every class, on its own samples and on all of them, at w = 20."""

from dataclasses import replace

import torch
from _common import arguments, clock, features_of, keep

from empirical.dependence import SAMPLES, measure

args = arguments(__doc__, smoke=None)
for loaded, subject, data, seen in features_of(args):
    here = replace(subject, shape=(seen.logits.shape[1],))
    present = torch.bincount(data.labels, minlength=seen.logits.shape[1])
    for samples in SAMPLES:
        found = measure(
            seen.logits, data.labels, samples=samples, seed=args.seed,
            classes=(present >= 2).nonzero().flatten().tolist(),
            progress=clock(f"{loaded.name}, {samples} samples, classes"),
        )  # fmt: skip
        keep(found.records(here), args, "study independence-deficit")
