#!/usr/bin/env python3
"""The tokens of `codex login`, seen from outside: who refreshes them, how often, and what is left in the file.

    run.py --patchbay target/release/patchbay [--only NAME] [--keep DIR]
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import codex_backend  # noqa: E402
import codex_scenes  # noqa: E402
import harness  # noqa: E402
from codex_scenes import MODEL  # noqa: E402
from harness import CLIENT_KEY, equal, expect  # noqa: E402

CROWD = 200
DEAD = ("refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant")


def ask(port, start=None):
    """One question: status and what was said."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    if start:
        start.wait()
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "plain"}]})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", "authorization": f"Bearer {CLIENT_KEY}"})
    reply = connection.getresponse()
    said = json.loads(reply.read())
    connection.close()
    if reply.status == 200:
        return 200, said["choices"][0]["message"]["content"]
    return reply.status, said["error"]["message"]


def crowd(port, count):
    """As many at the same moment."""
    start = threading.Barrier(count)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: ask(port, start), range(count)))


def held(scene):
    return json.loads(scene.auth.read_text())


def whole_file(scene, before):
    """The file after a refresh: the newest tokens, everything else as it was, for the owner alone."""
    after = held(scene)
    equal(stat.S_IMODE(scene.auth.stat().st_mode), 0o600, "the file's mode")
    equal(after["mark"], before["mark"], "an unknown field")
    equal(after["tokens"]["mark"], "inner", "an unknown field of the tokens")
    equal(after["tokens"]["account_id"], codex_backend.ACCOUNT, "the account")
    expect(scene.tokens.good(after["tokens"]["access_token"]), "the access token in the file is not good")
    expect(scene.tokens.refresh[after["tokens"]["refresh_token"]], "the refresh token in the file is used up")
    expect(after["last_refresh"] != before["last_refresh"], "last_refresh is as it was")
    left = sorted(path.name for path in scene.auth.parent.glob("*auth*") if path.name not in ("auth.json", "auth.json.lock"))
    equal(left, [], "files that are left behind")


def at_expiry(it):
    """The token has run out; the endpoint is slow, so that all must wait."""
    scene, port = it.scene, it.proxy.port
    before = held(scene)
    answers = crowd(port, CROWD)
    equal(set(answers), {(200, "Hello!")}, "the answers")
    equal(len(scene.oauth.requests), 1, "refreshes")
    whole_file(scene, before)
    return f"{CROWD} requests, 1 refresh, {len(scene.backend.refused)} tokens refused by the backend"


def ahead(it):
    """Less than five minutes are left: it is refreshed before the backend refuses it."""
    before = held(it.scene)
    equal(ask(it.proxy.port), (200, "Hello!"), "the answer")
    deadline = time.monotonic() + 15
    while held(it.scene)["last_refresh"] == before["last_refresh"]:
        expect(time.monotonic() < deadline, "nothing was refreshed")
        time.sleep(0.01)
    equal(crowd(it.proxy.port, 20), [(200, "Hello!")] * 20, "the answers")
    equal((len(it.scene.oauth.requests), it.scene.backend.refused), (1, []), "refreshes, refusals")
    whole_file(it.scene, before)


def refused(it):
    """The backend refuses a token that looks good: one refresh for all, and each request is repeated."""
    scene = it.scene
    before = held(scene)
    equal(ask(it.proxy.port), (200, "Hello!"), "the answer before")
    scene.tokens.revoke(before["tokens"]["access_token"])
    equal(set(crowd(it.proxy.port, CROWD)), {(200, "Hello!")}, "the answers")
    equal(len(scene.oauth.requests), 1, "refreshes")
    whole_file(scene, before)
    return f"{len(scene.backend.refused)} requests repeated"


def rotated(it):
    """Another process has refreshed: its tokens are taken from the file, and nothing is spent."""
    scene = it.scene
    equal(ask(it.proxy.port), (200, "Hello!"), "the answer before")
    old = held(scene)
    access, refresh = scene.tokens.issue()
    new = {**old, "tokens": {**old["tokens"], "access_token": access, "refresh_token": refresh}, "last_refresh": "2026-02-02T00:00:00Z"}
    scene.tokens.revoke(old["tokens"]["access_token"])
    scene.tokens.refresh[old["tokens"]["refresh_token"]] = False
    codex_backend.write_private(scene.auth, new)
    equal(set(crowd(it.proxy.port, 50)), {(200, "Hello!")}, "the answers")
    equal((len(scene.oauth.requests), held(scene)), (0, new), "refreshes, the file")


def dead(it):
    """Every waiting client learns at once what to do, and nothing is asked again and again."""
    scene = it.scene
    before = scene.auth.read_bytes()
    for status, message in [*crowd(it.proxy.port, 50), *crowd(it.proxy.port, 20)]:
        expect(status == 401 and "codex login" in message, f"the answer of status {status} does not say what to do", message)
    equal(len(scene.oauth.requests), 1, "refreshes")
    equal(scene.auth.read_bytes(), before, "the file")
    # The user obeys, and the new tokens are found.
    scene.tokens.auth_file(scene.auth)
    deadline = time.monotonic() + 30
    while (answer := ask(it.proxy.port)) != (200, "Hello!"):
        expect(time.monotonic() < deadline, "a new login is not noticed", answer)
        time.sleep(0.05)
    equal(len(scene.oauth.requests), 1, "refreshes")
    return message


def endpoint_down(it):
    """A failing endpoint is no reason to throw the login away."""
    scene = it.scene
    before = scene.auth.read_bytes()
    for mode in ("500", "garbage"):
        scene.oauth.mode = mode
        status, message = ask(it.proxy.port)
        expect(status in (401, 502, 503) and message, f"{mode} is {status}", message)
        equal(scene.auth.read_bytes(), before, "the file")


def login_says(it):
    """`patchbay auth` shows the account and the expiry, and no secret."""
    done = subprocess.run(
        [str(it.binary), "auth", "--auth-path", str(it.scene.auth)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(it.scene.folder)}, cwd=it.scene.folder,
    )
    said = done.stdout + done.stderr
    equal(done.returncode, 0, "the exit code")
    expect(codex_backend.ACCOUNT in said, "the account is not shown", said)
    for secret in secrets(it.scene):
        expect(secret not in said, "a secret is shown", said)


def secrets(scene):
    return [*scene.tokens.access, *scene.tokens.refresh]


# Name: what to do, seconds that the token lives from the start, what the token endpoint does.
CASES = {
    "at_expiry": (at_expiry, -60, "ok"), "ahead": (ahead, 100, "ok"), "refused": (refused, 3600, "ok"), "rotated": (rotated, 3600, "ok"),
    **{f"dead_{mode}": (dead, -60, mode) for mode in DEAD}, "endpoint_down": (endpoint_down, -60, "500"), "login_says": (login_says, 3600, "ok"),
}


class It:
    def __init__(self, scene, proxy, binary):
        self.scene, self.proxy, self.binary = scene, proxy, binary


def run(name, options, folder):
    case, lifetime_s, mode = CASES[name]
    with codex_scenes.open_scene(folder / name, lifetime_s=lifetime_s) as scene, contextlib.ExitStack() as stack:
        scene.oauth.mode, scene.oauth.delay_s = mode, 0.5
        proxy = scene.served(options.patchbay.resolve())
        stack.callback(proxy.close)
        note = case(It(scene, proxy, options.patchbay.resolve()))
        scene.holds()
        said = proxy.said()
        expect(not any(secret in said for secret in secrets(scene)), "a token is in the log")
        return note


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchbay", required=True, type=Path, help="the binary under test")
    parser.add_argument("--only", help="only cases whose name holds this")
    parser.add_argument("--keep", type=Path, help="keep every file of the run here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="patchbay-codex-auth-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        cases = {name: (lambda name=name: run(name, options, folder)) for name in CASES}
        return harness.run_cases(harness.only(cases, options.only), 1, "codex-auth")


if __name__ == "__main__":
    sys.exit(main())
