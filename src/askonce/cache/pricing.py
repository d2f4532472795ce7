"""How a cache prices answers: from `prices=`, or from the environment, to a Pricer.

``$ASKONCE_PRICES`` is the path of a file in TOML or JSON, or ``off``. What it does not list is priced by genai-prices,
if that is installed (``askonce[prices]``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from askonce.cache import config
from askonce.core.prices import Rates, price_list
from askonce.core.wording import one_of, whole
from askonce.errors import ConfigError
from askonce.flight.pricing import UNPRICED, Pricer

Prices = Mapping[str, Any] | str | os.PathLike[str] | bool
OFF = "off"


def pricer_of(prices: Prices | None) -> Pricer:
    """The pricer of a cache; ConfigError if the list cannot be read, or is invalid."""
    if prices is None and (said := config.variable("ASKONCE_PRICES")) is not None:
        with config.naming("ASKONCE_PRICES"):
            return _pricer(said)
    return _pricer(prices)


def _pricer(said: object) -> Pricer:
    if said is None or said is True:
        return Pricer()
    if said is False or one_of(said, (OFF,)):
        return UNPRICED
    if isinstance(said, Mapping):
        return Pricer(price_list({"models": said}, "prices="))
    if isinstance(said, str) and not said.strip():
        raise ConfigError("prices='' names no file: give the path of a file of prices, or False for none")
    if isinstance(said, str | os.PathLike):
        return Pricer(read_prices(said))
    raise ConfigError(
        f"prices= is a {type(said).__name__}: give the path of a file of prices, a dict of models, or False for none"
        " (also $ASKONCE_PRICES)"
    )


def read_prices(named: os.PathLike[str] | str) -> Mapping[str, Rates]:
    """The rates in a file."""
    from pathlib import Path  # late: few caches read a file of prices

    from askonce.cache import files

    path = Path(named)
    try:
        text = files.text_of(path.expanduser())
    except UnicodeDecodeError:
        raise ConfigError(f"the file {whole(path)} is not text: write prices in TOML or JSON") from None
    except (OSError, ValueError, RuntimeError) as error:  # the last two: no path at all, or ~ of an unknown user
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"the prices in {whole(path)} cannot be read: {why}; name a file in TOML or JSON, or off for none"
        ) from None
    kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
    try:
        said = json.loads(text) if kind == "JSON" else _toml(text)
    except ValueError as error:
        raise ConfigError(
            f'{whole(path)} is no {kind}: {error}; write a table [models."gpt-9*"] as docs/savings.md shows'
        ) from None
    return price_list(said, str(path))


def _toml(text: str) -> Any:
    import tomllib  # late: few have such a file, and all wait for what askonce imports

    return tomllib.loads(text)
