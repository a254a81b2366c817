"""Weights from the hub that timm asks: the only place where a model touches the network."""

from __future__ import annotations

import socket
from urllib.parse import urlparse

from torch import nn

from theory.errors import InputError


def from_hub(name: str) -> nn.Module:
    """A timm model with the weights that the hub or its cache has.

    Raises:
        InputError: neither supplies them.
    """
    import timm
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    try:
        if not resolves(constants.ENDPOINT):
            constants.HF_HUB_OFFLINE = True  # its cache still answers; no minute of retries
        model: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub clients raise many unrelated types
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else repr(error)
        raise InputError(
            f"the weights of {name!r} have to come from a hub and it did not supply them "
            f"({type(error).__name__}: {reason}); if a download was interrupted, run the same command "
            "again: the hub's cache keeps what is whole; otherwise give them with --checkpoint FILE, "
            "or measure an untrained network with --random-weights"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
    return model


def resolves(url: str) -> bool:
    """Whether the host of ``url`` has an address here."""
    try:
        return bool(socket.getaddrinfo(urlparse(url).hostname, 443))
    except OSError:
        return False
