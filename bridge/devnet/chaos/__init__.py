"""A chain that misbehaves on purpose: a Filecoin node's personality in front of a local anvil or Hardhat."""

from bridge.devnet.chaos.personality import Act, Personality
from bridge.devnet.chaos.script import Script
from bridge.devnet.chaos.server import serve
from bridge.devnet.chaos.settings import Settings

__all__ = ["Act", "Personality", "Script", "Settings", "serve"]
