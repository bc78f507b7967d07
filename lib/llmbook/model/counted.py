"""What every model can say about itself."""

from torch import nn


class Counted(nn.Module):
    """A model that knows its size."""

    def num_parameters(self) -> int:
        """How many numbers training adjusts; a tied table counts once."""
        return sum(p.numel() for p in self.parameters())
