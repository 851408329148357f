"""Dialogues become turns, rows and shards: a pure, deterministic pass that costs no tokens."""
