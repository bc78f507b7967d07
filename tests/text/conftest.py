"""What tests of corpora share with those of storage."""

from tests.storage.conftest import cache

__all__ = ["cache"]
