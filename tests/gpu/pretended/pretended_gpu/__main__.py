"""``python -m pretended_gpu``: compile what is needed and multiply once; says which card, or in one line why not."""

import importlib
import sys

import pretended_gpu


def main() -> int:
    try:
        if "torch" not in sys.modules and not any(isinstance(f, pretended_gpu._Finder) for f in sys.meta_path):
            pretended_gpu.wait_for_torch()
        torch = importlib.import_module("torch")
    except pretended_gpu.PretendError as error:
        print(error)
        return 1
    assert (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).tolist() == [[2, 2], [2, 2]]
    print(torch.cuda.get_device_name())
    return 0


if __name__ == "__main__":
    sys.exit(main())
