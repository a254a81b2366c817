"""Singular-value exponents over the blocks, and token rank with and without skips."""

from _common import answer, arguments

from empirical.data import pictures
from empirical.models import load
from empirical.validation import depth_records

args = arguments(__doc__, "vit_tiny_patch16_224")
records = []
for name in args.models:
    loaded = load(name)
    for title, image in pictures(loaded, args.images, args.count or 1):
        directions = 16 if args.smoke else 256
        records += depth_records(loaded, image, title, args.seed, directions, args.device)
answer(records, args, "study depth-laws")
