"""A scripted Codex backend over TLS, as strict as the real one, and the token endpoint that goes with it.

The backend wants what the ChatGPT backend wants: a token that is known and not expired, the account's
header, `store: false`, `stream: true`, instructions, an array as input, no item ids, none of the
parameters that it does not know. It answers errors as `{"detail": ...}`, ends a stream with an empty
`output`, and sends its rate limits as headers. What the model says is a script, as in `upstream.py`.
"""
import base64
import json
import os
import select
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import responses_upstream
import upstream
from upstream import Answer

PATH = "/backend-api/codex/responses"
ACCOUNT = "acc-0123-test"
CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
FORBIDDEN = frozenset(
    "temperature top_p max_output_tokens max_tokens max_completion_tokens presence_penalty frequency_penalty seed metadata "
    "top_logprobs truncation service_tier user previous_response_id background safety_identifier prompt_cache_retention stop "
    "conversation max_tool_calls prompt stream_options".split()
)
KNOWN = frozenset(
    "model instructions input tools tool_choice parallel_tool_calls reasoning store stream include prompt_cache_key text client_metadata".split()
)
EFFORTS = ("none", "low", "medium", "high", "xhigh")
LIMITS = {
    "x-codex-primary-used-percent": "12.5",
    "x-codex-primary-window-minutes": "300",
    "x-codex-primary-reset-at": "1893456000",
    "x-codex-secondary-used-percent": "40.0",
    "x-codex-secondary-window-minutes": "10080",
    "x-codex-secondary-reset-at": "1893888000",
    "x-codex-credits-has-credits": "False",
    "x-codex-credits-unlimited": "False",
    "x-codex-plan-type": "plus",
}


def make_certificate(folder):
    """A certificate for 127.0.0.1 with its key: (certificate, key, context of a server)."""
    certificate, key = folder / "tls.pem", folder / "tls.key"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
            "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, key, context


# ---- tokens ----------------------------------------------------------------------------------------------
def jwt(expires, account=ACCOUNT, **claims):
    """A token in the shape of the real ones, with a signature that nobody checks."""
    head = {"alg": "none", "typ": "JWT"}
    auth = {"chatgpt_account_id": account, "chatgpt_plan_type": "plus"}
    body = {"exp": int(expires), "email": "someone@example.com", "https://api.openai.com/auth": auth, **claims}
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*(json.dumps(it).encode() for it in (head, body)), b"signature"))


class Tokens:
    """Which tokens are good. Shared by the backend and the token endpoint."""

    def __init__(self):
        self.lock = threading.Lock()
        self.access = {}  # to when it expires, seconds since the epoch
        self.refresh = {}  # to whether it can still be used
        self.issued = 0

    def issue(self, lifetime_s=3600):
        """A new pair: (access token, refresh token)."""
        with self.lock:
            self.issued += 1
            expires = time.time() + lifetime_s
            access, refresh = jwt(expires, jti=f"access-{self.issued}"), f"rt-secret-{self.issued}-{os.urandom(6).hex()}"
            self.access[access] = expires
            self.refresh[refresh] = True
        return access, refresh

    def revoke(self, access):
        """The backend stops taking it, whatever it says of itself."""
        with self.lock:
            self.access[access] = 0

    def good(self, access):
        with self.lock:
            return self.access.get(access, 0) > time.time()

    def auth_file(self, path, lifetime_s=3600, **more):
        """Writes what `codex login` leaves behind; returns what it holds."""
        access, refresh = self.issue(lifetime_s)
        held = {
            "OPENAI_API_KEY": None,
            "tokens": {"id_token": jwt(time.time() + 3600, kind="id"), "access_token": access, "refresh_token": refresh, "account_id": ACCOUNT, "mark": "inner"},
            "last_refresh": "2026-01-01T00:00:00Z", "mark": {"of": ["ours", 1]}, **more,
        }
        write_private(path, held)
        return held


def write_private(path, value):
    """Writes JSON that only its owner may read, whole or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(value, indent=2))
    beside.chmod(0o600)
    beside.replace(path)


class TokenServer(upstream.Upstream):
    """`POST /oauth/token`: refresh tokens that work once.

    `mode`: "ok"; the code of a permanent refusal; "500"; "garbage". Answers take `delay_s`.
    """

    scheme = "https"

    def __init__(self, tokens, context, log=None):
        self.tokens, self.mode, self.delay_s, self.lifetime_s = tokens, "ok", 0.0, 3600
        super().__init__(None, log=log, context=context)
        self.token_url = f"https://127.0.0.1:{self.port}/oauth/token"

    def take(self, handler, raw):
        body = json.loads(raw) if raw else None
        with self.lock:
            request = upstream.Request(len(self.requests) + 1, handler.command, handler.path, dict(handler.headers), body, [])
            self.requests.append(request)
            self.complaints += [f"token request {request.n}: {what}" for what in self.check(request)]
        answer = self.grant(body or {})
        answer.delay_s = self.delay_s
        return request, answer

    @staticmethod
    def check(request):
        body = request.body or {}
        bad = [] if (request.method, request.path) == ("POST", "/oauth/token") else [f"{request.method} {request.path}"]
        wanted = {"client_id": CLIENT_ID, "grant_type": "refresh_token"}
        return bad + [f"{key} is {body.get(key)!r}" for key, value in wanted.items() if body.get(key) != value]

    def grant(self, body):
        if self.mode == "500":
            return Answer(status=500, error=b"<h1>Bad day</h1>", headers={"content-type": "text/html"})
        if self.mode == "garbage":
            return Answer(error=b'{"access_token": ', headers={"content-type": "application/json"})
        if self.mode != "ok":
            return refusal(self.mode)
        refresh = body.get("refresh_token")
        with self.tokens.lock:
            usable = self.tokens.refresh.get(refresh)
            if usable:
                self.tokens.refresh[refresh] = False
        if not usable:
            return refusal("refresh_token_invalidated" if usable is None else "refresh_token_reused")
        access, following = self.tokens.issue(self.lifetime_s)
        return Answer(error={"access_token": access, "refresh_token": following, "id_token": jwt(time.time() + 3600, kind="id"), "token_type": "Bearer"})


def refusal(code):
    """How the token endpoint says that a refresh token is dead."""
    if code == "invalid_grant":
        return Answer(status=400, error={"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."})
    return Answer(status=401, error={"error": {"message": "Your refresh token cannot be used.", "type": "invalid_request_error", "param": None, "code": code}})


# ---- the backend -----------------------------------------------------------------------------------------
@dataclass
class Hang:
    """The model thinks until the proxy hangs up; when that was is kept in `Backend.hangups`."""

    seconds_max: float = 20.0


@dataclass
class Thought:
    """Reasoning with its encrypted form."""

    text: str
    encrypted: str


def usage_limit(status=404, resets_in_s=3600):
    """What the backend says when a plan is used up."""
    error = {
        "type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": "plus",
        "resets_at": int(time.time()) + resets_in_s, "resets_in_seconds": resets_in_s,
    }
    return Answer(status=status, error={"error": error}, headers=LIMITS | {"x-codex-primary-used-percent": "100.0"})


def detail(status, text):
    return Answer(status=status, error={"detail": text})


class Backend(upstream.Upstream):
    """The server. `tokens` says which tokens are good; without them it is a third party's endpoint,
    which wants `upstream.KEY` and no account."""

    scheme = "https"

    def __init__(self, script, context, tokens=None, refuse=None, log=None):
        self.tokens, self.hangups = tokens, {}  # the number of a request to when it was
        self.refused = []  # the statuses of requests that were turned away for their token
        super().__init__(script, refuse, log=log, context=context)
        self.host = f"https://127.0.0.1:{self.port}"
        self.codex_url = self.host + PATH

    @staticmethod
    def handler():
        return Handler

    @staticmethod
    def dialect(_request):
        return sys.modules[__name__]

    def take(self, handler, raw):
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        with self.lock:
            request = upstream.Request(len(self.requests) + 1, handler.command, handler.path, dict(handler.headers), body, [])
            self.requests.append(request)
            if self.log:
                record = {"ev": "request", "n": request.n, "method": request.method, "path": request.path, "headers": request.headers, "body": body}
                self.log.write(json.dumps(record, ensure_ascii=False) + "\n")
                self.log.flush()
        if (request.method, request.path) != ("POST", PATH):
            return request, self.complain(request, 404, f"no such path: {request.method} {request.path}")
        headers = {name.lower(): value for name, value in request.headers.items()}
        turned_away = self.authorise(headers)
        if turned_away:
            with self.lock:
                self.refused.append(turned_away.status)
            return request, turned_away
        bad = check_headers(headers, self.tokens is not None)
        if bad:
            return request, self.complain(request, 400, "; ".join(bad))
        bad = check_codex(body) or (self.refuse(request) if self.refuse else None)
        if bad:
            return request, self.complain(request, 400, bad[0])
        try:
            answer = self.answer(request)
        except Exception as error:  # noqa: BLE001  the scenario's own mistake: show it, do not hang the client
            return request, self.complain(request, 400, f"the script failed: {error!r}")
        answer.headers = LIMITS | answer.headers
        return request, answer

    def complain(self, request, status, what):
        with self.lock:
            self.complaints.append(f"request {request.n}: {what}")
        return detail(status, what)

    def authorise(self, headers):
        """The refusal for what is wrong with who asks, if anything."""
        carried = headers.get("authorization", "")
        if self.tokens is None:
            return None if carried == f"Bearer {upstream.KEY}" else detail(401, "Invalid API key")
        if not carried.startswith("Bearer "):
            return detail(401, "Unauthorized")
        if headers.get("chatgpt-account-id") != ACCOUNT:
            return detail(401, "Missing or unknown ChatGPT-Account-ID")
        if not self.tokens.good(carried.removeprefix("Bearer ")):
            error = {"message": "Provided authentication token is expired. Please try signing in again.", "type": None, "code": "token_expired", "param": None}
            return Answer(status=401, error={"error": error, "status": 401})
        return None


def check_headers(headers, first_party):
    """What must and what must not travel to the backend."""
    bad = [f"the client's header {name} is passed on" for name in headers if name.startswith("x-stainless-") or name in ("cookie", "x-api-key", "openai-organization")]
    if "text/event-stream" not in headers.get("accept", ""):
        bad.append(f"accept is {headers.get('accept')!r}")
    if first_party:
        bad += [f"no header {name}" for name in ("originator", "version", "user-agent") if not headers.get(name)]
    return bad


def check_codex(body):
    """What the backend would refuse in `body`, in its words."""
    if not isinstance(body, dict):
        return ["Invalid JSON"]
    bad = [f"Unsupported parameter: {key}" for key in body if key in FORBIDDEN]
    bad += [f"Unknown parameter: {key}" for key in body if key not in KNOWN | FORBIDDEN]
    if body.get("store") is not False:
        bad.append("Store must be set to false")
    if body.get("stream") is not True:
        bad.append("Stream must be set to true")
    if not isinstance(body.get("instructions"), str) or not body["instructions"]:
        bad.append("Instructions are required")
    if not isinstance(body.get("input"), list):
        return bad + ["Input must be a list"]
    for at, item in enumerate(body["input"]):
        if item.get("type") == "item_reference":
            bad.append(f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is set to false.")
        elif "id" in item:
            bad.append(f"input[{at}]: Item with id {item['id']!r} not found. Items are not persisted when `store` is set to false.")
        if item.get("role") == "system":
            bad.append("System messages are not allowed")
        if item.get("type") == "reasoning" and not item.get("encrypted_content"):
            bad.append(f"input[{at}]: reasoning without encrypted_content")
    effort = (body.get("reasoning") or {}).get("effort")
    if effort is not None and effort not in EFFORTS:
        bad.append(f"Unsupported value: {effort!r} is not supported")
    if "tool_choice" in body and isinstance(body["tool_choice"], dict) and not body.get("tools"):
        bad.append("tool_choice without tools")
    held = {key: value for key, value in body.items() if key != "tools" or value}
    return bad + responses_upstream.check_responses(held)


class Handler(upstream.Handler):
    asked = None  # the request that is being answered

    def reply(self, request, answer):
        self.asked = request.n
        super().reply(request, answer)

    def send(self, data):
        if not isinstance(data, Hang):
            try:
                return super().send(data)
            except OSError:
                self.hung_up()
        # The proxy has nothing more to say: whatever can be read is the end of the connection.
        readable, _, _ = select.select([self.connection], [], [], data.seconds_max)
        try:
            gone = readable and not self.connection.recv(1)
        except OSError:
            gone = True
        if gone:
            self.hung_up()
        raise ConnectionResetError

    def hung_up(self):
        self.server.upstream.hangups[self.asked] = time.monotonic()
        raise ConnectionResetError


class Items(responses_upstream.Items):
    def add(self, part):
        if isinstance(part, Hang):
            self.items.append((part, None, None))
        elif isinstance(part, Thought):
            number = len(self.items) + 1
            item = {"type": "reasoning", "id": f"rs_{number:032}", "summary": [{"type": "summary_text", "text": part.text}], "encrypted_content": part.encrypted}
            self.items.append((item, {**item, "summary": [], "encrypted_content": ""}, part.text))
        else:
            super().add(part)


class Stream(responses_upstream.Stream):
    """As OpenAI's, but the last event has no output, and there are events that only this backend has."""

    def __init__(self, answer, body, created):
        super().__init__(answer, body, created)
        self.output = Items(answer.parts, body, self.reason is not None)

    def frames(self):
        frames = super().frames()
        yield next(frames)
        yield self.event("codex.rate_limits", plan_type="plus", rate_limits={"allowed": True, "limit_reached": False})
        yield from frames

    def item(self, index, item, empty, text, torn):
        if isinstance(item, Hang):
            yield item
        else:
            yield from super().item(index, item, empty, text, torn)

    def final(self):
        return {**super().final(), "output": []}


def document(_answer, _body, _created):
    raise AssertionError("the backend only streams")


