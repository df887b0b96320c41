"""The Codex CLI, set up as its users set it up for GigaChat: a `config.toml` without a wire API, and a key."""
import base64
import json
import subprocess

import place as at
from harness import equal, expect

CONFIG = """
model = "{model}"
model_provider = "gpt2giga"

[model_providers.gpt2giga]
name = "gpt2giga"
base_url = "{url}"
env_key = "GPT2GIGA_API_KEY"
"""


class Turn:
    """What `codex exec` said and left."""

    def __init__(self, codex, folder, url, prompt, environment=None, more=()):
        self.work, home = folder / "work", folder / "home"
        for path in (self.work, home / ".codex"):
            path.mkdir(parents=True, exist_ok=True)
        (home / ".codex" / "config.toml").write_text(CONFIG.format(model=at.MODEL, url=url))
        env = at.base_environment(home) | {"CODEX_HOME": str(home / ".codex"), "GPT2GIGA_API_KEY": at.KEY, "TERM": "dumb"}
        done = subprocess.run(
            [
                str(codex), "exec", "--json", "--skip-git-repo-check", "--disable", "plugins", "-c", "analytics.enabled=false",
                "-c", 'sandbox_mode="danger-full-access"', prompt, *more,
            ],
            cwd=self.work, env=env | (environment or {}), stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False,
        )
        self.code, self.stderr = done.returncode, done.stderr.decode(errors="replace")
        out = done.stdout.decode()
        (folder / "exec.jsonl").write_text(out)
        self.events = [json.loads(line) for line in out.split("\n") if line.startswith("{")]

    def items(self, kind):
        return [e["item"] for e in self.events if e["type"] == "item.completed" and e["item"]["type"] == kind]

    def said(self):
        """The last words of a turn that ended well."""
        ended = [e for e in self.events if e["type"] == "turn.completed"]
        story = "\n".join(json.dumps(e, ensure_ascii=False) for e in self.events) + self.stderr[-800:]
        expect(self.code == 0 and ended, f"the turn failed with {self.code}", story)
        return [item["text"] for item in self.items("agent_message")][-1]


def turns(options, place, url, name, environment=None):
    """A text turn, and one in which a command is run."""
    text = Turn(options.codex, place.folder / f"{name}-text", url, "Say it, please.", environment)
    equal(text.said(), at.TRICKY, "the text turn")
    tool = Turn(options.codex, place.folder / f"{name}-tool", url, "Make a file, please.", environment)
    expect(tool.said().startswith("The file is there: {") and 'a\\"b' in tool.said(), "the answer does not know the result", tool.said())
    equal((tool.work / "made.txt").read_text(), 'a"b', "the file")
    ran = tool.items("command_execution")
    expect(len(ran) == 1 and ran[0]["exit_code"] == 0 and 'a"b' in ran[0]["aggregated_output"], "the command", ran)
    place.mock.holds()
    return f"tokens={place.mock.counters()['tokens']}"


def codex_plain(options, folder):
    with at.open_place(options.patchbay, folder, keep=options.keep) as place:
        return turns(options, place, place.url, "plain")


def codex_trailing_slash(options, folder):
    with at.open_place(options.patchbay, folder, keep=options.keep) as place:
        return turns(options, place, f"{place.url}/", "slash")


def codex_default_port(options, folder):
    """Port 8090, which the documents name."""
    if not at.is_free(8090):
        return "SKIPPED: port 8090 is taken"
    with at.open_place(options.patchbay, folder, port=None, keep=options.keep) as place:
        equal(place.proxy.port, 8090, "the port")
        return turns(options, place, "http://localhost:8090", "port")


def codex_behind_nginx(options, folder):
    """With TLS of a root that only Codex is told of, with either variable."""
    with at.open_place(options.patchbay, folder, keep=options.keep) as place, at.nginx(place) as url:
        turns(options, place, f"{url}/", "ssl", {"SSL_CERT_FILE": str(place.authority.root)})
        return turns(options, place, url, "codex", {"CODEX_CA_CERTIFICATE": str(place.authority.root)})


def codex_long_session(options, folder):
    """Calls that take longer than a token lives, one behind the other."""
    with at.open_place(options.patchbay, folder, keep=options.keep) as place:
        turn = Turn(options.codex, folder / "long", place.url, "Take your time, please.")
        said = turn.said()
        equal([f"step {n}" in said for n in (1, 2, 3)], [True] * 3, "the steps in the answer")
        equal([run["exit_code"] for run in turn.items("command_execution")], [0] * 3, "the commands")
        place.mock.holds()
        tokens = place.mock.counters()["tokens"]
        expect(tokens >= 4, "every request is one token later", tokens)
        return f"tokens={tokens}"


def codex_image(options, folder):
    with at.open_place(options.patchbay, folder, keep=options.keep) as place:
        picture = folder / "dot.png"
        picture.write_bytes(base64.b64decode(at.DOT))
        turn = Turn(options.codex, folder / "image", place.url, "What is on it?", more=["-i", str(picture)])
        equal(turn.said(), "I see 1 picture.", "the answer")
        equal(place.mock.counters()["uploads"], 1, "the uploads")
        place.mock.holds()


def codex_wrong_key(options, folder):
    """The user is told, and GigaChat is not asked."""
    with at.open_place(options.patchbay, folder, keep=options.keep) as place:
        turn = Turn(options.codex, folder / "wrong", place.url, "Say it.", {"GPT2GIGA_API_KEY": "another-key-0123456789"})
        told = " ".join(e["error"]["message"] for e in turn.events if e["type"] == "turn.failed")
        expect(turn.code == 1 and "key" in told.lower(), "the turn did not fail with a message", turn.events)
        equal([account["requests"] for account in place.mock.counters()["accounts"].values()], [0], "the requests of each account")
        return told


CASES = [codex_plain, codex_trailing_slash, codex_default_port, codex_behind_nginx, codex_long_session, codex_image, codex_wrong_key]
