"""Stands in for the ordering rules that the request validator imports under this name."""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from strict import check_chat  # noqa: E402, F401  (imported by the validator)

CHAT_VENDOR = ()


def check_responses(_body, _codex):
    return []


def check_giga(_body):
    return []
