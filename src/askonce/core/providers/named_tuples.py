"""NamedTuple, as `typing` has it, made at less than half of the cost.

In a module of postponed annotations, each annotation is a text, and `typing` compiles the text of every field when it
makes the class, for nothing. That was a tenth of the time of ``import askonce``, which makes seventy such classes.
Python 3.14 does not do that any more. A NamedTuple that is also Generic needs that of `typing`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or sys.version_info >= (3, 14):
    from typing import NamedTuple
else:
    from collections import namedtuple

    class _Maker(type):
        """Makes a named tuple of what stands in the body of a class."""

        def __new__(cls, name: str, _: tuple[type, ...], body: dict[str, Any]) -> type:
            kinds = body.pop("__annotations__", {})
            defaults = [body.pop(field) for field in kinds if field in body]
            made = namedtuple(name, kinds, defaults=defaults, module=body.pop("__module__"))  # noqa: PYI024 - see above
            made.__annotations__ = made.__new__.__annotations__ = kinds
            for attribute, value in body.items():
                setattr(made, attribute, value)
            return made

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})

__all__ = ["NamedTuple"]
