"""Content by hash: blocks, UnixFS files and directories, CAR archives. Nothing here opens a connection."""
