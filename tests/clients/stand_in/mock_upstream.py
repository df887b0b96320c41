"""Stands in for the ordering rules that the request validator imports under this name."""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from responses_upstream import check_responses  # noqa: E402, F401  (imported by the validator)
from strict import check_chat  # noqa: E402, F401

CHAT_VENDOR = ()


def check_giga(_body):
    return []
