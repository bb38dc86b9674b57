"""Files and directories as blocks: the names that the rest of Insula uses from this package.

Writing (`importer`, profile unixfs-v1-2025), reading (`reader`), walking (`walk`), exporting to a folder (`export`).
"""

from __future__ import annotations

from executor.content.export import export_tree
from executor.content.importer import (
    CHUNK_BYTES,
    Imported,
    directory_blocks,
    file_blocks,
    import_bytes,
    import_directory,
    import_file,
    import_listing,
    import_tree,
    only_hash,
    tree_blocks,
)
from executor.content.limits import TreeLimits, check_name
from executor.content.reader import (
    Entry,
    Manifest,
    ManifestEntry,
    Stat,
    TreeSize,
    list_dir,
    manifest,
    read_file,
    resolve,
    stat,
    tree_size,
    walk_tree,
)
from executor.content.walk import StoredSize, blocks, missing, stored_size, walk
from executor.protocol.cid import Cid

EMPTY_DIRECTORY = Cid.parse("bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354")
EMPTY_FILE = Cid.parse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")

__all__ = [
    "CHUNK_BYTES",
    "EMPTY_DIRECTORY",
    "EMPTY_FILE",
    "Entry",
    "Imported",
    "Manifest",
    "ManifestEntry",
    "Stat",
    "StoredSize",
    "TreeLimits",
    "TreeSize",
    "blocks",
    "check_name",
    "directory_blocks",
    "export_tree",
    "file_blocks",
    "import_bytes",
    "import_directory",
    "import_file",
    "import_listing",
    "import_tree",
    "list_dir",
    "manifest",
    "missing",
    "only_hash",
    "read_file",
    "resolve",
    "stat",
    "stored_size",
    "tree_blocks",
    "tree_size",
    "walk",
    "walk_tree",
]
