"""Where the Codex CLI is an upstream: a scripted Responses server behind it, its home, its workdir, and patchbay."""
import contextlib
import json
import socket
import time
from pathlib import Path

import harness
import upstream as scripted
from answers import TRICKY
from harness import expect
from upstream import Answer, Broken, Call, Pause, Reasoning, Text, fail

MODEL = "scripted-1"
KEY = "sk-of-clients-0123456789"
CITY = {"name": "Köln", "people": 1087863}
SECONDS = 31_337  # what a command sleeps that is to be ended
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CONFIG = """
model = "{model}"
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "http://127.0.0.1:{port}/v1"
env_key = "SCRIPTED_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = {retries}

[features]
plugins = false
"""


# ---- what the model says ---------------------------------------------------------------------------------
def said(request, role="user"):
    """The text of the last message of a role."""
    messages = [item for item in request.body["input"] if item.get("type", "message") == "message" and item["role"] == role]
    return scripted.text_of(messages[-1]) if messages else ""


def outputs(request):
    return [item["output"] for item in request.body["input"] if item.get("type", "").endswith("_call_output")]


def images(request):
    parts = [part for item in request.body["input"] if isinstance(item.get("content"), list) for part in item["content"]]
    return [part["image_url"] for part in parts if part.get("type") == "input_image"]


def run(request, command):
    """A call of the tool that runs commands, under the name that Codex gives it."""
    names = {tool.get("name") for tool in request.body["tools"]}
    if "exec_command" in names:
        return Call.of(f"call_{request.n}", "exec_command", cmd=command)
    return Call.of(f"call_{request.n}", "shell_command", command=command)


def script(request):
    text = said(request)
    if "Make a file." in text:
        if outputs(request):
            return Answer([Text(f"It is there: {outputs(request)[-1]}")])
        return Answer([Reasoning("I make it."), Text("Let me make it."), run(request, "printf größe > made.txt && cat made.txt")])
    if "Never end." in text:
        return Answer([Reasoning("I sleep."), run(request, f"sleep {SECONDS}")])
    if "Hang." in text:
        return Answer([Reasoning("Hm."), Pause(120), Text("Too late.")])
    if "Be silent." in text:
        return Answer([Text("Too late.")], delay_s=120)
    if "Fail late." in text:
        return Answer([Reasoning("Hm."), Broken("The model fell over.")])
    if "Break once." in text:
        parts = [Reasoning("Hm."), Text("One."), Text("Two.")]
        return Answer(parts) if request.n % 2 == 0 else Answer(parts, finish=None, end="cut")
    if "Not for you." in text:
        return fail(401, "This account is closed.", "invalid_api_key")
    if "Too fast." in text:
        return fail(429, "Slow down.", "rate_limit_exceeded")
    if "Wrong." in text:
        return fail(400, "I do not like this.", "invalid_value")
    if "Which city?" in text:
        return Answer([Text(json.dumps(CITY, ensure_ascii=False))])
    if images(request):
        return Answer([Text(f"I see {len(images(request))} picture(s).")])
    if "Think." in text:
        return Answer([Reasoning("One.\n\nTwo."), Text("Three.")])
    return Answer([Text(TRICKY)])


# ---- the place -------------------------------------------------------------------------------------------
class Place:
    """One home of the CLI with its scripted model."""

    def __init__(self, options, folder, model, retries=0):
        self.options, self.folder, self.model = options, Path(folder), model
        self.home, self.work, self.start = (self.folder / name for name in ("home", "work", "start"))
        for path in (self.home / ".codex", self.start, self.folder / "tmp"):
            path.mkdir(parents=True, exist_ok=True)
        (self.home / ".codex" / "config.toml").write_text(CONFIG.format(model=MODEL, port=model.port, retries=retries))

    def serve(self, variables=None, environment=None, file=".env", port="0"):
        """`patchbay serve --preset codex-exec` with these lines in its env file."""
        lines = {"CODEX_PATH": self.options.codex, "CODEX_WORKDIR": self.work, "CODEX_TIMEOUT": 60, "PROXY_API_KEY": KEY} | (variables or {})
        (self.start / file).write_text("".join(f"{name}={value}\n" for name, value in lines.items() if value is not None))
        env = {
            "HOME": str(self.home), "CODEX_HOME": str(self.home / ".codex"), "TMPDIR": str(self.folder / "tmp"),
            "SCRIPTED_KEY": scripted.KEY, "TERM": "dumb",
        }
        if file != ".env":
            env["CODEX_ENV_FILE"] = file
        args = ["--preset", "codex-exec"]
        return harness.Patchbay(self.options.patchbay, None, self.start, args=args, environment=env | (environment or {}), port=port)

    def last(self):
        """The last request for an answer that the model got."""
        return self.model.requests[-1]

    def leftovers(self):
        return sorted(path.name for path in (self.folder / "tmp").iterdir())


@contextlib.contextmanager
def open_place(options, folder, variables=None, retries=0, **more):
    """A place, and patchbay in front of it; afterwards nothing may be left of any run."""
    with harness.open_upstream(script, folder) as model:
        place = Place(options, folder, model, retries)
        proxy = place.serve(variables, **more)
        try:
            yield place, proxy
            # A run's files go a moment after its process.
            wait("the runs to be over", lambda: not children(proxy.process.pid) and not place.leftovers())
            expect(not model.complaints, "the model complains", model.complaints)
        except BaseException:
            with contextlib.suppress(harness.Failed):
                proxy.close()
            raise
        proxy.close()
        said = proxy.said()
        expect(KEY not in said and "größe" not in said, "a secret or a prompt is in the log", said[-2000:])


# ---- processes -------------------------------------------------------------------------------------------
def processes():
    """Process id to (parent, group, state) of every process here."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (path / "stat").read_text().rpartition(") ")[2].split()
                found[int(path.name)] = (int(fields[1]), int(fields[2]), fields[0])
    return found


def children(pid):
    return [child for child, (parent, _, _) in processes().items() if parent == pid]


def descendants(pid):
    """All that a process started, and what these did."""
    table, found, new = processes(), set(), {pid}
    while new:
        new = {child for child, (parent, _, _) in table.items() if parent in new} - found
        found |= new
    return found


def alive(pids):
    table = processes()
    return sorted(pid for pid in pids if table.get(pid, (0, 0, "Z"))[2] not in "ZX")


def is_codex(pid):
    """Whether it is a run of the CLI, and not the shell that ends one."""
    with contextlib.suppress(OSError):
        return b"--skip-git-repo-check" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def sleepers(seconds=SECONDS):
    """The processes of the command that sleeps."""
    found = []
    for pid in processes():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(pid)
    return found


def wait(what, holds, seconds=20):
    """Asks until it holds, and says how long that took."""
    begun = time.monotonic()
    while not (seen := holds()):
        expect(time.monotonic() < begun + seconds, f"waited {seconds} s in vain for {what}")
        time.sleep(0.01)
    return time.monotonic() - begun, seen


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
