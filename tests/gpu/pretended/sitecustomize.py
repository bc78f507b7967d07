"""Python runs this at its start where this folder is on PYTHONPATH; it stands in for an environment's own, if any."""

import os

if os.environ.get("PRETENDED_GPU"):
    import pretended_gpu

    pretended_gpu.wait_for_torch()
