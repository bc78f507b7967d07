"""The one convention about labels that data and losses share."""

IGNORE = -100  # a label with this value is not a target: the value torch and transformers use
