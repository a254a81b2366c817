"""Classification dimension beside the published figures, over ImageNet's validation set."""

from _common import answer, arguments

from empirical.data import labelled
from empirical.models import load
from empirical.validation import feature_records, published_records

args = arguments(__doc__)
records = []
for name in args.models:
    loaded = load(name)
    data = labelled(loaded, args.images, count=args.count, seed=args.seed)
    found = feature_records(loaded, data, args.seed, args.device)
    records += [r for r in found if r.measurement == "classification"] + published_records(found)
answer(records, args, "study classification-dimension")
