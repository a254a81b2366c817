"""Classification dimension beside the published figures, over ImageNet's validation set."""

from _common import arguments, features_of, keep

from empirical.classification import PROJECTIONS, measure
from empirical.published import published_records

PAPER = (
    "resnet18", "resnet50", "resmlp_24_224", "gmixer_24_224", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
)  # fmt: skip
args = arguments(__doc__, PAPER, smoke=None)
for _, subject, data, seen in features_of(args):
    for projection in PROJECTIONS:
        found = measure(
            seen.features, seen.weight, seen.bias, data.labels, projection=projection,
            seed=args.seed,
        ).records(subject)  # fmt: skip
        keep([*found, *published_records(found)], args, "study classification-dimension")
