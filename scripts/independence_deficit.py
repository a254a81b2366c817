"""Independence deficit of every class, on its own samples and on all of them, at w = 20."""

from _common import answer, arguments

from empirical.data import labelled
from empirical.models import load
from empirical.validation import feature_records

args = arguments(__doc__)
records = []
for name in args.models:
    loaded = load(name)
    data = labelled(loaded, args.images, count=args.count, seed=args.seed)
    found = feature_records(loaded, data, args.seed, args.device)
    records += [r for r in found if r.measurement == "dependence"]
answer(records, args, "study independence-deficit")
