"""torch's CPU kernels that have no public name: the only place in the library that calls them.

Each has a stock fallback, taken where this torch lacks the name: the same numbers to rounding, only slower. ``onednn``
holds float32 and bfloat16 products, ``weight_only`` products with 8- and 4-bit codes, ``inductor`` an option of
``torch.compile``. What is public in torch is called where it is needed.
"""
