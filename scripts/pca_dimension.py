"""Perturbed PCA dimension at every block: 5000 samples, a list of noise magnitudes."""

from _common import arguments, clock, images_of, keep

from empirical.pca import measure

args = arguments(__doc__, count=10)
samples, noises = (60, (1e-3,)) if args.smoke else (5000, (1e-1, 1e-3, 1e-5))
for loaded, subject, image in images_of(args, "pca"):
    found = measure(
        loaded.model, image, loaded.taps, noises=noises, samples=samples, seed=args.seed,
        device=args.device, progress=clock(f"{loaded.name}, passes"),
    )  # fmt: skip
    keep(found.records(subject), args, "study pca-dimension")
