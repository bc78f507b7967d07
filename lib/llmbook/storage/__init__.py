"""Files on this machine and where they come from: written whole, downloaded, cached, unpacked from packages.

Start with ``sources.py``, which says in what order a file is looked for; ``files.py`` is how the library writes one.
"""

from llmbook.storage.download import DownloadError, download
from llmbook.storage.files import sweep_unfinished, whole_file, write_file
from llmbook.storage.folders import cache_dir
from llmbook.storage.sources import SourceError, fetch_package_files
from llmbook.storage.weights import package_files

__all__ = [
    "DownloadError",
    "SourceError",
    "cache_dir",
    "download",
    "fetch_package_files",
    "package_files",
    "sweep_unfinished",
    "whole_file",
    "write_file",
]
