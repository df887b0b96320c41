"""What every client test needs: the proxy as a process, the validators, and a run of cases."""
import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import upstream as scripted

CLIENT_KEY = "sk-client-0123456789"


class Failed(Exception):
    """An expectation that did not hold. The text says what was seen."""


def expect(holds, what, *seen):
    """Fails with `what` and what was seen in its place."""
    if not holds:
        shown = " | ".join(s if isinstance(s, str) else json.dumps(s, ensure_ascii=False, default=str) for s in seen)
        raise Failed(f"{what}: {shown[:3000]}" if seen else what)


def equal(seen, wanted, what):
    expect(seen == wanted, f"{what} is not {wanted!r}", seen)


class Patchbay:
    """A running `patchbay serve` on a free port (or the one that it takes by itself, with `port` None), pointed at a
    scripted upstream."""

    def __init__(self, binary, upstream_url, folder, config=None, args=(), environment=None, port="0"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.info = self.folder / "server-info.json"
        self.info.unlink(missing_ok=True)
        self.log = open(self.folder / "patchbay.log", "wb")
        command = [str(binary), "serve", "--server-info", str(self.info)]
        if port is not None:
            command += ["--port", port]
        if config is not None:
            path = self.folder / "patchbay.toml"
            path.write_text(config)
            command += ["--config", str(path)]
        if upstream_url:
            command += ["--upstream-url", upstream_url, "--api-key-env", "UPSTREAM_KEY"]
        env = {"PATH": os.environ["PATH"], "UPSTREAM_KEY": scripted.KEY}
        env |= {k: v for k, v in os.environ.items() if k in ("RUST_LOG", "RUST_BACKTRACE")}
        env |= environment or {}
        self.process = subprocess.Popen(
            [*command, *args], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env, cwd=self.folder
        )
        self.port = self.wait_for_port()
        self.base = f"http://127.0.0.1:{self.port}/v1"

    def wait_for_port(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"patchbay ended with {self.process.returncode}: {self.said()[-3000:]}")
            with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
                return json.loads(self.info.read_text())["port"]
            time.sleep(0.01)
        self.process.kill()
        raise Failed(f"patchbay did not write {self.info} in 20 s: {self.said()[-3000:]}")

    def said(self):
        return (self.folder / "patchbay.log").read_text(errors="replace")[-100_000:]

    def close(self):
        """Ends it as an operator does, and makes sure that it did end, and well."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed("patchbay did not end within 20 s of SIGTERM") from None
        finally:
            self.log.close()
        said = self.said()
        expect("panicked" not in said, "patchbay panicked", said[-2000:])
        expect(code == 0, f"patchbay ended with {code} after SIGTERM", said[-2000:])
        expect(scripted.KEY not in said, "the upstream's key is in the log")


@contextlib.contextmanager
def serving(binary, script, folder, refuse=None, config=None, dialect="chat"):
    """A scripted upstream and a proxy in front of it."""
    with open_upstream(script, folder, refuse) as upstream:
        text = config(upstream) if callable(config) else config
        url = upstream.url if dialect == "chat" else upstream.responses_url
        args = ["--upstream-dialect", dialect] if text is None else []
        proxy = Patchbay(binary, url if text is None else None, folder, text, args)
        try:
            yield upstream, proxy
        except BaseException:
            with contextlib.suppress(Failed):
                proxy.close()
            raise
        proxy.close()


@contextlib.contextmanager
def open_upstream(script, folder, refuse=None):
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / "upstream.jsonl", "w") as log:
        upstream = scripted.Upstream(script, refuse, log=log)
        try:
            yield upstream
        finally:
            upstream.close()


class Validators:
    """The independent validators, if they are at hand."""

    def __init__(self, folder, python):
        self.folder = Path(folder).resolve() if folder else None
        self.python = python
        self.env = dict(os.environ)
        # The request validator takes its ordering rules from a module `mock_upstream`; where that is
        # not beside it, ours stand in.
        self.env["PYTHONPATH"] = str(Path(__file__).resolve().parent / "stand_in")

    def __bool__(self):
        return bool(self.folder and self.python)

    def run(self, tool, *args):
        """Runs one; its complaints as text, or None when it has none."""
        command = [str(self.python), str(self.folder / f"{tool}.py"), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.env, stdin=subprocess.DEVNULL, check=False)
        return None if done.returncode == 0 else f"{tool} {' '.join(map(str, args))}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"

    def requests(self, requests, folder):
        """Checks what a proxy sent to a Chat Completions server."""
        bodies = []
        for request in requests:
            if isinstance(request.body, dict) and request.method == "POST":
                path = Path(folder) / f"upstream-{request.n:03}.json"
                path.write_text(json.dumps(request.body, ensure_ascii=False, indent=1))
                bodies.append(path)
        if self and bodies:
            complaint = self.run("validate_requests", *bodies, "--kind", "chat", "--quiet")
            expect(complaint is None, "the request validator complains", complaint or "")


def run_cases(cases, jobs, label, quiet=False):
    """Runs `{name: function}`, each returning a note or raising, and prints one line for each, or
    with `quiet` for those that fail."""
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(timed, work): name for name, work in cases.items()}
        for future in concurrent.futures.as_completed(futures):
            name = futures[future]
            note, seconds, error = future.result()
            if error is None:
                passed += 1
                if not quiet:
                    print(f"ok {name} ({note + ', ' if note else ''}seconds={seconds:.1f})", flush=True)
            else:
                failed += 1
                print(f"FAIL {name}: {error}", flush=True)
    print(f"{label}: {passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


def timed(work):
    start = time.monotonic()
    try:
        note = work()
    except Failed as error:
        return None, time.monotonic() - start, str(error)
    except Exception:  # noqa: BLE001  whatever it is belongs to that case alone
        return None, time.monotonic() - start, traceback.format_exc()
    return note or "", time.monotonic() - start, None


def only(cases, pattern):
    """The cases whose name holds `pattern`; all without one."""
    found = {name: work for name, work in cases.items() if not pattern or pattern in name}
    if not found:
        sys.exit(f"no case has {pattern!r} in its name; there are: {', '.join(cases)}")
    return found
