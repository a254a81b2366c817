"""Rank of the partial Jacobian at every block: relative ranks of each network, image by image."""

from _common import arguments, images_of, keep

from empirical.jacobian import jacobian_profile

args = arguments(__doc__, count=10)
for loaded, subject, image in images_of(args, "jacobian"):
    profile = jacobian_profile(
        loaded.model, image, patch=None if args.smoke else 16, taps=loaded.taps, seed=args.seed,
        device=args.device, name=loaded.name, weights=loaded.weights, image_name=subject.data,
    )  # fmt: skip
    keep(profile.records, args, "study layer-rank")
