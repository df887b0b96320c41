#!/usr/bin/env python3
"""Runs the real Codex CLI through patchbay against a scripted Chat Completions server.

    run.py --patchbay target/release/patchbay --codex node_modules/.bin/codex
           [--validators DIR --python VENV/bin/python] [--only NAME] [--keep DIR] [--jobs N]

One line a scenario: `ok NAME (...)` or `FAIL NAME: reason`; at the end `N passed, N failed`.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness  # noqa: E402
from harness import expect  # noqa: E402
import scenarios  # noqa: E402

PROVIDER = "patchbay-test"


class Run:
    """One scenario while it runs: the folders, the proxy, and what Codex said."""

    def __init__(self, scenario, options, folder):
        self.scenario = scenario
        self.options = options
        self.folder = Path(folder)
        self.work = self.folder / "work"
        self.home = self.folder / "home"
        for path in (self.work, self.home / ".codex"):
            path.mkdir(parents=True, exist_ok=True)
        self.events = []
        self.stderr = ""
        self.code = None
        self.upstream = None
        self.proxy = None

    def beside(self, name):
        """A run of its own through the same proxy."""
        other = Run(self.scenario, self.options, self.folder / name)
        other.upstream, other.proxy = self.upstream, self.proxy
        return other

    def environment(self):
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CODEX_HOME": str(self.home / ".codex"),
            "PATCHBAY_CLIENT_KEY": harness.CLIENT_KEY,
            "TERM": "dumb",
        }
        return env | self.scenario.env(self)

    def provider(self):
        """The settings that point Codex at the proxy."""
        settings = {
            "name": PROVIDER,
            "base_url": self.proxy.base,
            "wire_api": "responses",
            "env_key": "PATCHBAY_CLIENT_KEY",
        } | self.scenario.provider
        settings = {key: value for key, value in settings.items() if value is not None}
        inside = ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
        return ["-c", f"model_providers.{PROVIDER}={{{inside}}}", "-c", f"model_provider={PROVIDER}"]

    def codex(self, *command, provider=True):
        """Runs `codex exec`, and adds what it says to `events`."""
        arguments = [
            *command, "--json", "--skip-git-repo-check", "--disable", "plugins", "-c", "analytics.enabled=false",
            "-c", 'sandbox_mode="danger-full-access"', *(self.provider() if provider else []),
            *self.scenario.arguments(self),
        ]
        if self.scenario.model:
            arguments += ["-c", f"model={json.dumps(self.scenario.model)}"]
        return self.process([str(self.options.codex), "exec", *arguments])

    def process(self, command):
        (self.folder / "command.txt").write_text("\n".join(command))
        try:
            done = subprocess.run(
                command, cwd=self.work, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True,
                timeout=self.scenario.timeout_s, check=False,
            )
        except subprocess.TimeoutExpired as error:
            (self.folder / "exec.jsonl").write_bytes(error.stdout or b"")
            raise harness.Failed(
                f"codex still ran after {self.scenario.timeout_s} s; {len(self.upstream.requests)} requests upstream; "
                f"it said: {(error.stdout or b'').decode(errors='replace')[-1500:]}"
            ) from None
        self.code = done.returncode
        self.stderr = done.stderr.decode(errors="replace")
        out = done.stdout.decode()
        (self.folder / "exec.jsonl").write_text(out)
        (self.folder / "codex.stderr").write_text(self.stderr)
        self.events = [json.loads(line) for line in out.split("\n") if line.startswith("{")]
        return self

    # What the checks ask.
    @property
    def requests(self):
        return self.upstream.requests

    def items(self, kind):
        return [e["item"] for e in self.events if e["type"] == "item.completed" and e["item"]["type"] == kind]

    def messages(self):
        return [item["text"] for item in self.items("agent_message")]

    def errors(self):
        return [e["message"] for e in self.events if e["type"] == "error"]

    def usage(self):
        return next((e["usage"] for e in self.events if e["type"] == "turn.completed"), None)

    def story(self):
        return f"exit {self.code}\n" + "\n".join(json.dumps(e, ensure_ascii=False) for e in self.events) + "\n" + self.stderr[-800:]

    def succeeded(self, text=None, requests=None):
        """The turn ended well, with `text` as its last words, at the price of `requests`."""
        expect(self.code == 0 and self.usage() is not None, "the turn did not succeed", self.story())
        if text is not None:
            expect(self.messages()[-1:] == [text], f"the last message is not {text!r}", self.messages())
        self.cost(requests)
        return self

    def failed(self, *words, requests=None):
        """The turn failed, and the user was told why in these words."""
        told = " ".join(e["error"]["message"] for e in self.events if e["type"] == "turn.failed")
        expect(self.code == 1 and told, "the turn did not fail with a message", self.story())
        for word in words:
            expect(word in told, f"the user is not told {word!r}", told)
        self.cost(requests)
        return self

    def cost(self, requests):
        if requests is not None:
            expect(len(self.requests) == requests, f"it took {len(self.requests)} requests upstream, not {requests}", self.story())


def perform(scenario, options, folder):
    """Runs one scenario from its start to its last check."""
    folder = folder / scenario.name
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run kept
    run = Run(scenario, options, folder)
    scenario.prepare(run)
    script = scenario.script
    with harness.serving(options.patchbay, script, folder, scenario.refuse, scenario.config, scenario.dialect) as (upstream, proxy):
        run.upstream, run.proxy = upstream, proxy
        scenario.drive(run)
        expect(not upstream.complaints, "a strict upstream refuses", upstream.complaints, run.story())
        scenario.check(run)
        if scenario.dialect == "chat":  # what a relay sends is Codex's own
            options.validators.requests(upstream.requests, folder)
    return f"requests={len(upstream.requests)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--codex", required=True, type=Path, help="the Codex CLI")
    parser.add_argument("--validators", help="the folder of the request validator")
    parser.add_argument("--python", help="a Python that has the validator's packages")
    parser.add_argument("--only", help="only scenarios whose name holds this")
    parser.add_argument("--keep", type=Path, help="keep every file of the runs here")
    parser.add_argument("--jobs", type=int, default=3, help="scenarios at a time")
    options = parser.parse_args()
    options.patchbay, options.codex = options.patchbay.resolve(), options.codex.absolute()
    options.validators = harness.Validators(options.validators, options.python)
    if not options.validators:
        print("note: without the request validators", flush=True)
    with tempfile.TemporaryDirectory(prefix="patchbay-codex-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        cases = {s.name: (lambda s=s: perform(s, options, folder)) for s in scenarios.all_scenarios()}
        return harness.run_cases(harness.only(cases, options.only), options.jobs, "codex")


if __name__ == "__main__":
    sys.exit(main())
