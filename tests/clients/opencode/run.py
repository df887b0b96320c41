#!/usr/bin/env python3
"""Runs the real OpenCode, without a network, through patchbay against a scripted Codex backend.

    run.py --patchbay target/release/patchbay --opencode node_modules/.bin/opencode
           [--validators DIR --python VENV/bin/python] [--only NAME] [--keep DIR]

Once as a Chat Completions client, once as a Responses client: a turn in which the model thinks, writes
a file and runs a command at once, then one in which it says what it did.
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

import codex_scenes  # noqa: E402
import harness  # noqa: E402
from codex_backend import Thought  # noqa: E402
from harness import CLIENT_KEY, equal, expect  # noqa: E402
from upstream import Answer, Call, Interleaved, Text  # noqa: E402

MODEL = "gpt-5.2-codex"
DONE = "Wrote the file: größe 日本語."
SECRET = "gAAAA-opencode-state+/=="
WRITTEN = "a line\nund noch eine: größe\n"
PATCH = "*** Begin Patch\n*** Add File: out.txt\n" + "".join(f"+{line}\n" for line in WRITTEN.splitlines()) + "*** End Patch"
PACKAGES = {"chat": "@ai-sdk/openai-compatible", "responses": "@ai-sdk/openai"}


def script(request):
    body = request.body
    if not body.get("tools"):  # it wants a title for the session
        return Answer([Text("A title")])
    if any(item.get("type") == "function_call_output" for item in body["input"]):
        return Answer([Thought("Done.", SECRET + "2"), Text(DONE)])
    calls = [
        Call.of("call_write", "apply_patch", patchText=PATCH),
        Call.of("call_bash", "bash", command="printf ran > ran.txt", description="Leaves a mark"),
    ]
    return Answer([Thought("**Plan** Write, then run.", SECRET), Interleaved(calls)], slice=5)


def settings(proxy, kind):
    options = {"baseURL": proxy.base, "apiKey": CLIENT_KEY}
    model = {"name": "Scripted", "limit": {"context": 272_000, "output": 128_000}, "reasoning": True, "tool_call": True}
    provider = {"npm": PACKAGES[kind], "name": "patchbay", "options": options, "models": {MODEL: model}}
    return {"autoupdate": False, "share": "disabled", "provider": {"patchbay": provider}, "model": f"patchbay/{MODEL}", "small_model": f"patchbay/{MODEL}"}


def opencode(binary, proxy, kind, folder, work):
    """One non-interactive run; what it said."""
    home = folder / "home"
    place = home / ".config" / "opencode"
    place.mkdir(parents=True, exist_ok=True)
    (place / "opencode.json").write_text(json.dumps(settings(proxy, kind)))
    off = ("AUTOUPDATE", "MODELS_FETCH", "DEFAULT_PLUGINS", "LSP_DOWNLOAD")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb"} | {f"OPENCODE_DISABLE_{name}": "1" for name in off}
    done = subprocess.run(
        [str(binary), "run", "--print-logs", "Write out.txt and run the command."], cwd=work, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=120, check=False,
    )
    (folder / "opencode.stdout").write_bytes(done.stdout)
    (folder / "opencode.stderr").write_bytes(done.stderr)
    expect(done.returncode == 0, f"opencode ended with {done.returncode}", done.stderr.decode(errors="replace")[-2000:])
    return done.stdout.decode(errors="replace")


def run(options, validators, kind, folder):
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    with codex_scenes.open_scene(folder, accounts=not options.key, answers=script) as scene, contextlib.ExitStack() as stack:
        proxy = scene.served(options.patchbay.resolve())
        stack.callback(proxy.close)
        said = opencode(options.opencode.absolute(), proxy, kind, folder, work)
        requests = [request.body for request in scene.backend.requests if isinstance(request.body, dict)]
        seen = [scene.backend.complaints, said[-1500:], [item.get("type") for body in requests[-1:] for item in body["input"]]]
        expect(DONE in said, "the last words are not shown", *seen)
        equal((work / "out.txt").read_text(), WRITTEN, "the file")
        equal((work / "ran.txt").read_text(), "ran", "the command's mark")
        last = next(body for body in requests if any(item.get("type") == "function_call_output" for item in body["input"]))
        equal([item["call_id"] for item in last["input"] if item.get("type") == "function_call_output"], ["call_write", "call_bash"], "the answered calls")
        if kind == "responses":
            equal([item["encrypted_content"] for item in last["input"] if item.get("type") == "reasoning"], [SECRET], "the reasoning that is back")
        scene.holds()
        if validators:
            complaint = validators.run("validate_requests", folder / "upstream.jsonl", "--kind", "codex", "--quiet")
            expect(complaint is None, "the request validator complains", complaint or "")
        return f"{len(requests)} requests"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--opencode", required=True, type=Path, help="the program")
    parser.add_argument("--validators", help="the folder of the validators")
    parser.add_argument("--python", help="the Python that has the SDK, for the validators")
    parser.add_argument("--only", help="only cases whose name holds this")
    parser.add_argument("--keep", type=Path, help="keep every file of the run here")
    parser.add_argument("--key", action="store_true", help="a third party's endpoint with a key instead of an account's tokens")
    options = parser.parse_args()
    validators = harness.Validators(options.validators, options.python)
    with tempfile.TemporaryDirectory(prefix="patchbay-opencode-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        cases = {kind: (lambda kind=kind: run(options, validators, kind, folder / kind)) for kind in PACKAGES}
        return harness.run_cases(harness.only(cases, options.only), 1, "opencode")


if __name__ == "__main__":
    sys.exit(main())
