"""Rank of the partial Jacobian at every block: relative ranks of each network, image by image."""

from _common import answer, arguments

from empirical.data import pictures
from empirical.jacobian import jacobian_profile
from empirical.models import load

args = arguments(__doc__)
records = []
for name in args.models:
    loaded = load(name)
    patch = None if args.smoke else 16
    for title, image in pictures(loaded, args.images, args.count or (1 if args.smoke else 10)):
        profile = jacobian_profile(
            loaded.model, image, patch=patch, taps=loaded.taps, seed=args.seed, device=args.device,
            name=name, weights=loaded.weights,
        )  # fmt: skip
        print(f"{name} on {title}: {profile.seconds:.1f} s")
        records += profile.records
answer(records, args, "study layer-rank")
