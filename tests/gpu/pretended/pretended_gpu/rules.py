"""What torch's own tables say of every operator: how it looks at devices, and whether CUDA has a kernel of it."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

SAME, SCALARS, ANYWHERE, INDICES, NO_KERNEL = range(5)  # as in device.cpp
# Operators that the table says check nothing because they allow more than a number on the CPU.
ANY_DEVICE = ("copy_", "_copy_from", "_copy_from_and_resize", "set_", "is_set_to")
INDEXING = ("index", "_index_put_impl_", "index_put", "index_put_")
# Products of matrices: CUDA has no integer kernels of them, and those of float16 add up in float32.
PRODUCTS = ("mm", "bmm", "addmm", "addmm_", "baddbmm", "baddbmm_", "addmv", "addmv_", "dot", "vdot", "addbmm", "addr")
PRODUCTS += ("_addmm_activation",)


def rules() -> Iterator[tuple[str, int, bool, bool]]:
    """(operator, rule, whether it is a product, whether it draws random numbers) of every operator."""
    import yaml

    torchgen = Path(importlib.util.find_spec("torchgen").origin).parent
    text = (torchgen / "packaged/ATen/native/native_functions.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries = {entry["func"].split("(")[0]: entry for entry in yaml.load(text, Loader=loader)}
    for name, entry in entries.items():
        kernels = entries.get(entry.get("structured_delegate"), entry).get("dispatch") or {}
        keys = {key.strip() for several in kernels for key in several.split(",")}
        composite = not keys or any(key.startswith("Composite") for key in keys)
        base = name.split(".")[0]
        if "CPU" in keys and "CUDA" not in keys and not composite:
            rule = NO_KERNEL
        elif base in ANY_DEVICE:
            rule = ANYWHERE
        elif base in INDEXING:
            rule = INDICES
        else:
            rule = SCALARS if entry.get("device_check") == "NoCheck" or base.startswith("_foreach") else SAME
        yield f"aten::{name}", rule, base in PRODUCTS, "nondeterministic_seeded" in str(entry.get("tags", ""))
