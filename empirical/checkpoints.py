"""Local checkpoints: read as tensors only, keys renamed where a known habit renamed them, fitted.

A checkpoint often wraps its state dict (``state_dict``, ``model``, an exponential moving average),
prefixes its keys (``module.`` of data parallelism, ``_orig_mod.`` of compilation) or comes from a
model's original repository, for which timm's model files have a ``checkpoint_filter_fn``. Each such
step is undone and reported; what fits only in part is refused with the names.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from theory.errors import InputError

#: where training scripts put the state dict, in timm's order: averaged weights first
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "ema")
#: what wrapping a network in another module puts before its keys
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "backbone.", "ema.")
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Renamed:
    """A state dict with the model's own keys, and what had to be done to its keys, in words."""

    state: dict[str, Tensor]
    notes: tuple[str, ...]


def read(path: str | Path) -> Renamed:
    """Read a state dict from a ``.safetensors`` file or a torch file, tensors only.

    Args:
        path: the file; no code in it is ever unpickled (``weights_only=True``).

    Returns:
        The state dict, unwrapped, keys as they stand in it.

    Raises:
        InputError: the file is missing, damaged, or holds anything but a dict of tensors.
    """
    path = Path(path)
    state: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"no checkpoint at {path}") from error
    except Exception as error:  # unpickling and safetensors errors have no common type
        first = (str(error).strip() or repr(error)).splitlines()[0][:160]
        raise InputError(
            f"cannot read the checkpoint {path} as tensors only ({type(error).__name__}: {first}); "
            "save a plain state dict with torch.save or safetensors"
        ) from error
    notes = []
    wrapper = _wrapper(state)
    while wrapper is not None:
        notes.append(f"the state dict is its entry {wrapper!r}")
        state = state[wrapper]
        wrapper = _wrapper(state)
    if not isinstance(state, dict) or not state:
        raise InputError(f"the checkpoint {path} is not a state dict: a dict of names to tensors")
    foreign = [str(k) for k, v in state.items() if not isinstance(v, Tensor)]
    if foreign:
        raise InputError(
            f"the checkpoint {path} is not a state dict: {_names(foreign)} "
            f"{'is' if len(foreign) == 1 else 'are'} no tensor; its weights are looked for in the "
            f"entries {', '.join(WRAPPERS)}"
        )
    return Renamed({str(k): v for k, v in state.items()}, tuple(notes))


def _wrapper(state: Any) -> str | None:
    """The first known entry that is itself a dict."""
    if not isinstance(state, dict):
        return None
    return next((w for w in WRAPPERS if isinstance(state.get(w), dict)), None)


def renamed(model: nn.Module, found: Renamed) -> Renamed:
    """Give a state dict the model's own keys, as far as known habits explain the difference.

    Args:
        model: where it is to go.
        found: as ``read`` gives it.

    Returns:
        The state dict, with a note for each kind of change; it may still not fit.
    """
    own = model.state_dict()
    state, notes = _unprefixed(found.state, own)
    if set(state) != set(own) or any(state[k].shape != own[k].shape for k in own):
        filtered = _filtered(model, state)
        # a filter may also resize; it is taken only where it brings the keys nearer to the model's
        if filtered is not None and _misfits(filtered, own) < _misfits(state, own):
            notes += _changes(state, filtered)
            state = filtered
    return Renamed(state, (*found.notes, *notes))


def _misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> int:
    """How many keys are missing, unexpected or of another shape."""
    common = set(state) & set(own)
    return len(set(state) ^ set(own)) + sum(state[k].shape != own[k].shape for k in common)


def _unprefixed(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Without prefixes that every key carries, or that data parallelism put before some."""
    state, notes = dict(state), []
    changed = True
    while changed and set(state) != set(own):
        changed = False
        for prefix in PREFIXES:
            keys = [k for k in state if k.startswith(prefix)]
            alien = [k for k in keys if k not in own and k.removeprefix(prefix) not in state]
            everywhere = len(keys) == len(state)
            if not alien or not (everywhere or prefix in ("module.", "_orig_mod.")):
                continue
            notes.append(f"{len(alien)} keys renamed: {prefix}* -> * (such as {alien[0]!r})")
            gone = set(alien)
            state = {k.removeprefix(prefix) if k in gone else k: v for k, v in state.items()}
            changed = True
    return state, notes


def _filtered(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The state dict through the filter of the model's own timm file; None where there is none."""
    module = sys.modules.get(type(model).__module__)
    function = getattr(module, "checkpoint_filter_fn", None)
    if function is None or not type(model).__module__.startswith("timm."):
        return None
    try:
        result = function(dict(state), model)
    except Exception:  # a filter written for other keys fails in any way; the fit then says why
        return None
    if not isinstance(result, dict) or not all(isinstance(v, Tensor) for v in result.values()):
        return None
    return {str(k): v for k, v in result.items()}


def _changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """What timm's filter did: pairs of keys that carry the same tensor, dropped and new ones."""
    by_storage = {_identity(v): k for k, v in before.items()}
    moved, made = [], []
    for key, value in after.items():
        old = by_storage.get(_identity(value))
        if old is None:
            if key not in before or before[key].shape != value.shape:
                made.append(key)
        elif old != key:
            moved.append(f"{old} -> {key}")
    carried = {by_storage.get(_identity(v)) for v in after.values()}
    dropped = [k for k in before if k not in carried and k not in after]
    notes = []
    if moved:
        notes.append(f"{len(moved)} keys renamed by timm's filter: {_names(moved)}")
    if made:
        notes.append(f"{len(made)} tensors reshaped or made by timm's filter: {_names(made)}")
    if dropped:
        notes.append(f"{len(dropped)} keys dropped by timm's filter: {_names(dropped)}")
    return notes


def _identity(value: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return value.data_ptr(), tuple(value.shape), value.stride()


def _names(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def fit(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load ``state`` into ``model`` key by key, all or nothing.

    Raises:
        InputError: keys that are missing, unexpected or of another shape, by name and shape.
    """
    own = model.state_dict()
    missing = [
        k for k in own if k not in state and not k.endswith("num_batches_tracked")
    ]  # fmt: skip
    unexpected = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and state[k].shape != own[k].shape]
    problems = []
    if missing:
        listed = _names([f"{k!r} of shape {tuple(own[k].shape)}" for k in missing])
        problems.append(f"{len(missing)} keys are missing: {listed}")
    if unexpected:
        listed = _names([f"{k!r} of shape {tuple(state[k].shape)}" for k in unexpected])
        problems.append(f"{len(unexpected)} keys have no place in the model: {listed}")
    if shapes:
        listed = _names(
            [f"{k!r} {tuple(state[k].shape)}, wanted {tuple(own[k].shape)}" for k in shapes]
        )
        problems.append(f"{len(shapes)} keys have another shape: {listed}")
    if problems:
        near = difflib.get_close_matches(missing[0], unexpected, 1, 0.6) if missing else []
        hint = f" (was {near[0]!r} {missing[0]!r}?)" if near else ""
        raise InputError(
            f"{origin} does not fit {type(model).__name__}: {'; '.join(problems)}{hint}; "
            "is it a checkpoint of another model? nothing was loaded"
        )
    model.load_state_dict(dict(state), strict=False)


def fit_in_order(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict whose names differ but whose tensors stand in the model's order.

    Raises:
        InputError: another number of tensors, or the first pair of keys whose shapes differ.
    """
    own = model.state_dict()
    if len(own) != len(state):
        raise InputError(f"{origin} has {len(state)} tensors, the model {len(own)}")
    for (mine, value), (theirs, other) in zip(own.items(), state.items(), strict=True):
        if value.shape != other.shape:
            raise InputError(
                f"{origin} does not fit: key {theirs!r} has shape {tuple(other.shape)}, "
                f"the model's {mine!r} wants {tuple(value.shape)}"
            )
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))


def load_into(model: nn.Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a checkpoint, rename its keys where that is understood, and load it, all or nothing.

    Returns:
        What was done to its keys, in words; empty where they fitted as they stood.

    Raises:
        InputError: it cannot be read or does not fit.
    """
    found = renamed(model, read(Path(path)))
    fit(model, found.state, str(path))
    return found.notes


def check_finite(model: nn.Module, name: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        InputError: the first such tensor, with how many of its entries are not finite.
    """
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InputError(
                f"weights of {name!r}: {key} has {bad} of {value.numel()} entries NaN or infinite"
            )


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and bytes of all tensors; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for key, value in state.items():
        digest.update(f"{key}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
