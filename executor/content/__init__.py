"""Content by hash: blocks, UnixFS files and directories, CAR archives, and who brings them. Only `web` opens URLs."""
