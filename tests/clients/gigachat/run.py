#!/usr/bin/env python3
"""The preset `gigachat` between real clients and the scripted GigaChat (`patchbay mock`), over TLS with a root of its
own, with tokens that live for a second.

    VENV/bin/python run.py --patchbay target/release/patchbay [--codex node_modules/.bin/codex] [--validators DIR]
                           [--vendor VENV/bin/python] [--only NAME] [--keep DIR]

Runs in the Python that has the OpenAI SDK. Needs openssl, and nginx for the Codex CLI behind it.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness  # noqa: E402
from harness import equal, expect  # noqa: E402
import codex  # noqa: E402
import place as at  # noqa: E402
import sdk  # noqa: E402
import settings  # noqa: E402


def vendor_sdk(options, folder):
    """The scripted GigaChat understands the vendor's own SDK, with no proxy between them."""
    with at.open_mock(options.patchbay, folder) as mock:
        program = Path(__file__).resolve().parent / "vendor.py"
        command = [str(options.vendor), str(program), mock.host, str(mock.authority.root), at.CREDENTIALS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        expect(done.returncode == 0, "the SDK failed", done.stderr[-3000:])
        told = json.loads(done.stdout)
        expect(at.MODEL in told.pop("models"), "the model is not listed")
        name = "größe 日本語"
        wanted = {
            "text": name, "stream": name, "later": name, "password": name, "arguments": {"path": "größe.txt"}, "result": 'It says {"found": 1}',
            "dimensions": [1024, 1024], "picture": "I see 1 picture.", "files": [True], "deleted": True, "temperature": 400, "model": 404,
        }
        equal(told, wanted, "what the SDK was told")
        mock.holds(("temperature", "unknown_model"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--codex", type=Path, help="the Codex CLI; without it, its cases are left out")
    parser.add_argument("--vendor", type=Path, help="a Python with the package gigachat; without it, its case is left out")
    parser.add_argument("--validators", help="the folder of the validators")
    parser.add_argument("--only", help="only cases whose name holds this")
    parser.add_argument("--keep", type=Path, help="keep every file of the run, and what went over the wire, here")
    options = parser.parse_args()
    options.patchbay = options.patchbay.resolve()
    options.validators = harness.Validators(options.validators, sys.executable)
    if not options.validators:
        print("note: without the validators", flush=True)
    with tempfile.TemporaryDirectory(prefix="patchbay-gigachat-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        cases = {f"sdk_{one.__name__}": (lambda one=one: sdk.case(one, options, folder / one.__name__)) for one in sdk.CASES}
        cases |= {one.__name__: (lambda one=one: one(options, folder / one.__name__)) for one in settings.CASES}
        if options.vendor:
            cases["vendor_sdk"] = lambda: vendor_sdk(options, folder / "vendor_sdk")
        if options.codex:
            options.codex = options.codex.absolute()
            cases |= {one.__name__: (lambda one=one: one(options, folder / one.__name__)) for one in codex.CASES}
        return harness.run_cases(harness.only(cases, options.only), 2, "gigachat")


if __name__ == "__main__":
    sys.exit(main())
