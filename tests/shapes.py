"""The run-time checker of annotated shapes that the import hook in ``conftest`` puts around the library."""

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a fine float


def check_shapes(function):
    """Check functions that annotate tensors; plain arguments are the library's own to refuse, with its own words."""
    hints = getattr(function, "__annotations__", {}).values()
    annotated = any("jaxtyping" in f"{type(h).__module__} {getattr(h, '__module__', '')} {h!r}" for h in hints)
    return _check(function) if annotated else function
