"""Perturbed PCA dimension at every block: 5000 samples, a list of noise magnitudes."""

from _common import answer, arguments

from empirical.data import pictures
from empirical.models import load
from empirical.pca import measure
from empirical.validation import subject_of

args = arguments(__doc__)
samples, noises = (60, (1e-3,)) if args.smoke else (5000, (1e-1, 1e-3, 1e-5))
records = []
for name in args.models:
    loaded = load(name)
    for title, image in pictures(loaded, args.images, args.count or 1):
        found = measure(
            loaded.model, image, loaded.taps, noises=noises, samples=samples, seed=args.seed,
            device=args.device,
        )  # fmt: skip
        records += found.records(subject_of(loaded, image, title, args.seed))
answer(records, args, "study pca-dimension")
