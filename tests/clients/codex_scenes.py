"""What the scripted Codex backend says to the tests, by the last thing the user said, and how it is set up."""
import contextlib
from dataclasses import dataclass
from pathlib import Path

import codex_backend
from answers import TRICKY
from codex_backend import Backend, Hang, Thought, TokenServer, Tokens, detail, usage_limit
from harness import Patchbay, expect
from upstream import Answer, Broken, Call, Interleaved, Text, fail

MODEL = "gpt-5.2-codex"
DONE = "All ten steps are done."
STEPS = 10

# Functions, because a script that is asked twice must answer twice.
SAYS = {
    "text": lambda: Answer([Thought("**Hm.** Let me say it.", "gAAAA-text"), Text(TRICKY)]),
    "plain": lambda: Answer([Text("Hello!")]),
    "call": lambda: Answer([Text("Let me look."), Call.of("call_1", "look", path="größe.txt")], slice=3),
    "parallel": lambda: Answer(
        [Thought("Two.", "gAAAA-two"), Interleaved([Call.of("call_1", "look", path="a"), Call.of("call_2", "look", path="b")])], slice=3
    ),
    "city": lambda: Answer([Text('{"name": "Köln", "people": 1087863}')], slice=4),
    "count": lambda: Answer([Text("one two three four five")], slice=3),
    "length": lambda: Answer([Text("As far as it we")], finish="length"),
    "broken": lambda: Answer([Text("Half a sent"), Broken("The GPU fell over")], finish=None),
    "cut": lambda: Answer([Text("Half a sent")], finish=None, end="cut"),
    "hang": lambda: Answer([Text("tick tack"), Hang()]),
    "bad": lambda: detail(400, "The model does not like this"),
    "forbidden": lambda: detail(403, "Not for this plan"),
    "missing": lambda: detail(404, "Model not found"),
    "limit": usage_limit,
    "limit429": lambda: usage_limit(429),
    "down": lambda: fail(500, "Oh", None, "server_error"),
    "overloaded": lambda: fail(503, "Busy", None, "server_error"),
}


def last_word(body):
    """The text of the last user message."""
    said = [item for item in body["input"] if item.get("role") == "user"]
    content = said[-1]["content"] if said else ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def script(request):
    """A step of the session if there is one, else what the user asks for by name."""
    word = last_word(request.body)
    if word.startswith("session"):
        return step(request.body)
    if word.split(" ")[0] not in SAYS:
        return Answer([Text(f"I was asked: {word}")])
    return SAYS[word.split(" ")[0]]()


def step(body):
    """Turn n of a session of tool calls: it thinks, calls, and from the third on calls twice."""
    n = sum(item["type"] == "reasoning" for item in body["input"] if "type" in item) + 1
    thought = Thought(f"Step {n}.", sealed(n))
    if n > STEPS:
        return Answer([Text(DONE)])
    calls = [Call.of(f"call_{n}_{at}", "look", path=f"{n}.{at}") for at in range(1 if n < 3 else 2)]
    return Answer([thought, Interleaved(calls)], slice=5)


def sealed(n):
    return f"gAAAA-state-of-step-{n}+/=="


def refuse(request):
    """In a session the encrypted reasoning of every turn must be back, each before its calls."""
    if not last_word(request.body).startswith("session"):
        return []
    order = []
    for item in request.body["input"]:
        if item.get("type") == "reasoning":
            order.append(item["encrypted_content"])
        elif item.get("type") == "function_call" and not item["call_id"].endswith("_1"):
            n = int(item["call_id"].split("_")[1])
            if order != [sealed(before) for before in range(1, n + 1)]:
                return [f"the reasoning before {item['call_id']} is {order}"]
    return [] if "reasoning.encrypted_content" in request.body.get("include", []) else ["include lacks reasoning.encrypted_content"]


# ---- the set-up ------------------------------------------------------------------------------------------
@dataclass
class Scene:
    """A backend, its token endpoint, and the file that holds the tokens."""

    folder: Path
    certificate: Path
    backend: Backend
    tokens: Tokens | None
    oauth: TokenServer | None

    @property
    def auth(self):
        return self.folder / "auth.json"

    def config(self, more=""):
        """The configuration that points patchbay at it."""
        credential = '{ kind = "key", env = "UPSTREAM_KEY" }'
        if self.tokens:
            credential = f'{{ kind = "codex-auth", path = "{self.auth}", token_url = "{self.oauth.token_url}", key_url = "{self.backend.host}/v1/responses" }}'
        return "\n".join([
            "[providers.codex]", f'url = "{self.backend.codex_url}"', 'dialect = "responses"', 'quirks_profile = "chatgpt.com"',
            f'ca_file = "{self.certificate}"', "instructions = true", f"credential = {credential}", f'models = ["{MODEL}"]', more,
            "[[routes]]", 'model = "*"', 'provider = "codex"', "",
        ])

    def served(self, binary, config=None, args=(), environment=None):
        return Patchbay(binary, None, self.folder, config or self.config(), args, environment)

    def holds(self):
        """Nobody broke a rule."""
        bad = self.backend.complaints + (self.oauth.complaints if self.oauth else [])
        expect(not bad, "the backend complains", bad)


@contextlib.contextmanager
def open_scene(folder, accounts=True, answers=script, lifetime_s=3600):
    """`accounts`: with tokens; otherwise a third party's endpoint with a key."""
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    certificate, _, context = codex_backend.make_certificate(folder)
    tokens = Tokens() if accounts else None
    with open(folder / "upstream.jsonl", "w") as log, contextlib.ExitStack() as stack:
        backend = Backend(answers, context, tokens, refuse, log)
        stack.callback(backend.close)
        oauth = None
        if tokens:
            oauth = TokenServer(tokens, context)
            stack.callback(oauth.close)
        scene = Scene(folder, certificate, backend, tokens, oauth)
        if tokens:
            tokens.auth_file(scene.auth, lifetime_s)
        yield scene


