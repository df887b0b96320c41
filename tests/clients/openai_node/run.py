#!/usr/bin/env python3
"""Runs the real OpenAI Node SDK through patchbay: both APIs, both kinds of upstream.

    run.py --patchbay target/release/patchbay --sdk FOLDER      FOLDER holds node_modules/openai
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness  # noqa: E402
from answers import ANSWERS, TRICKY  # noqa: E402
from harness import expect  # noqa: E402

CLIENT = Path(__file__).resolve().parent / "client.mjs"


def verdicts(sdk, upstream, proxy):
    """Runs all cases: name to what went wrong, or None."""
    env = {"PATH": os.environ["PATH"], "PATCHBAY_CLIENT_KEY": harness.CLIENT_KEY, "TRICKY": TRICKY}
    done = subprocess.run(
        ["node", str(CLIENT), str(sdk), proxy.base], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, check=False,
    )
    expect(done.returncode == 0, "node failed", done.stderr)
    found = [json.loads(line) for line in done.stdout.split("\n") if line]
    return {one["name"]: one["error"] for one in found} | {"requests": "; ".join(upstream.complaints) or None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--sdk", required=True, type=Path, help="a folder with the npm package openai")
    options = parser.parse_args()
    cases = {}
    with tempfile.TemporaryDirectory(prefix="patchbay-node-") as folder, contextlib.ExitStack() as stack:
        for dialect in ("chat", "responses"):
            place = Path(folder) / dialect
            upstream = stack.enter_context(harness.open_upstream(lambda request: ANSWERS[request.body["model"]], place))
            url = upstream.url if dialect == "chat" else upstream.responses_url
            proxy = harness.Patchbay(options.patchbay.resolve(), url, place, args=["--upstream-dialect", dialect])
            stack.callback(proxy.close)
            for name, error in verdicts(options.sdk, upstream, proxy).items():
                cases[f"{name}/{dialect}-upstream"] = lambda error=error: expect(error is None, error or "")
        return harness.run_cases(cases, 1, "openai-node", quiet=True)


if __name__ == "__main__":
    sys.exit(main())
