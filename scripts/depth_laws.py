"""Singular-value exponents over the blocks, and token rank with and without skips."""

from _common import arguments, images_of, keep

from empirical.validation import depth_records

args = arguments(__doc__, ("vit_tiny_patch16_224",), count=1)
directions = 16 if args.smoke else 256
for loaded, subject, image in images_of(args, "lyapunov"):
    title = subject.extra["image_name"]
    found = depth_records(loaded, image, title, args.seed, directions, args.device)
    keep(found, args, "study depth-laws")
