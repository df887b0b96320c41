"""A scripted model server that is as strict as the strictest real ones.

It speaks Chat Completions, and on the path of the Responses API that (`responses_upstream.py`).

A script is a function `(Request) -> Answer`, or a list of answers, one for each request. The server
records every request, refuses with 400 what `strict.check_chat` complains about, and can do what real
servers do to their clients: slice deltas anywhere, interleave parallel calls, cut the connection.

    python3 upstream.py --port 8000 --text "Hello"      serves one fixed answer, for trying by hand
"""
import argparse
import fcntl
import http.server
import json
import socket
import struct
import sys
import termios
import threading
import time
from dataclasses import dataclass, field

import responses_upstream
import strict

CHAT_PATH, RESPONSES_PATH = "/v1/chat/completions", "/v1/responses"
KEY = "sk-upstream-0123456789"
USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 15,
    "total_tokens": 135,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


# ---- what a model says -------------------------------------------------------------------------
@dataclass
class Text:
    text: str


@dataclass
class Reasoning:
    text: str
    field: str = "reasoning_content"


@dataclass
class Refusal:
    text: str


@dataclass
class Call:
    id: str
    name: str
    arguments: str  # the raw string, so that a scenario can send bad JSON

    @staticmethod
    def of(id, name, /, **arguments):
        return Call(id, name, json.dumps(arguments, ensure_ascii=False))


@dataclass
class Interleaved:
    """Parallel calls whose argument deltas take turns."""

    calls: list


@dataclass
class Broken:
    """An error in the middle of the answer, in the words of the API."""

    message: str
    code: str = "server_error"


@dataclass
class Pause:
    """Silence in the middle of the answer."""

    seconds: float


@dataclass
class Raw:
    """Bytes of the stream as they are, e.g. an error frame."""

    data: bytes


@dataclass
class Answer:
    """One reply. As a stream when the request asks for one, else as one document."""

    parts: list = field(default_factory=list)
    finish: str | None = "stop"
    usage: dict | None = field(default_factory=lambda: dict(USAGE))
    usage_in_finish: bool = False  # some servers put it into the chunk with the finish_reason
    done: bool = True  # data: [DONE]
    slice: int = 7  # characters in a delta
    write: int | None = None  # bytes in a write; None = one frame a write
    newline: str = "\n"
    end: str = "clean"  # clean | cut: close without the last chunk | reset: TCP RST
    status: int = 200
    headers: dict = field(default_factory=dict)
    error: object = None  # the whole body instead of an answer
    delay_s: float = 0.0  # before the head
    model: str | None = None


def fail(status, message, code=None, kind="invalid_request_error", headers=None):
    """An error reply in the usual envelope."""
    error = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Answer(status=status, error=error, headers=headers or {})


def pieces(text, size):
    """`text` in slices; nothing for an empty one."""
    return [text[at : at + size] for at in range(0, len(text), size)]


class Stream:
    """Turns an answer's parts into frames."""

    def __init__(self, answer, body, created):
        self.answer = answer
        self.head = {
            "id": f"chatcmpl-up{created}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": answer.model or body["model"],
            "system_fingerprint": "fp_test",
        }
        self.wants_usage = body.get("stream_options", {}).get("include_usage", False)
        self.calls = 0

    def frame(self, delta=None, finish=None, **extra):
        chunk = dict(self.head)
        chunk["choices"] = [{"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}]
        if self.wants_usage:
            chunk["usage"] = None
        chunk.update(extra)
        return self.data(json.dumps(chunk, ensure_ascii=False))

    def data(self, text):
        end = self.answer.newline
        return f"data: {text}{end}{end}".encode()

    def frames(self):
        """All frames in order."""
        answer = self.answer
        yield self.frame({"role": "assistant", "content": ""})
        for part in answer.parts:
            yield from self.part(part)
        usage = answer.usage if self.wants_usage else None
        if answer.finish:
            extra = {"usage": usage} if usage and answer.usage_in_finish else {}
            yield self.frame(finish=answer.finish, **extra)
        if usage and not answer.usage_in_finish:
            yield self.frame(choices=[], usage=usage)
        if answer.done:
            yield self.data("[DONE]")

    def part(self, part):
        size = self.answer.slice
        if isinstance(part, Raw):
            yield part.data
        elif isinstance(part, Pause):
            time.sleep(part.seconds)
        elif isinstance(part, Broken):
            error = {"message": part.message, "type": "server_error", "param": None, "code": part.code}
            yield self.data(json.dumps({"error": error}))
        elif isinstance(part, Interleaved):
            yield from self.interleaved(part.calls)
        elif isinstance(part, Call):
            yield from self.interleaved([part])
        else:
            name = {Text: "content", Refusal: "refusal"}.get(type(part)) or part.field
            for piece in pieces(part.text, size):
                yield self.frame({name: piece})

    def interleaved(self, calls):
        first = self.calls
        self.calls += len(calls)
        for at, call in enumerate(calls, first):
            function = {"name": call.name, "arguments": ""}
            entry = {"index": at, "id": call.id, "type": "function", "function": function}
            yield self.frame({"tool_calls": [entry]})
        left = [(at, pieces(call.arguments, self.answer.slice)) for at, call in enumerate(calls, first)]
        for turn in range(max((len(p) for _, p in left), default=0)):
            for at, parts in left:
                if turn < len(parts):
                    yield self.frame({"tool_calls": [{"index": at, "function": {"arguments": parts[turn]}}]})


def document(answer, body, created):
    """The same answer as one JSON document."""
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    for part in answer.parts:
        if isinstance(part, Broken):
            return {"error": {"message": part.message, "type": "server_error", "param": None, "code": part.code}}
        if isinstance(part, (Text, Refusal, Reasoning)):
            name = {Text: "content", Refusal: "refusal"}.get(type(part)) or part.field
            message[name] = (message.get(name) or "") + part.text
        elif isinstance(part, (Call, Interleaved)):
            for call in [part] if isinstance(part, Call) else part.calls:
                function = {"name": call.name, "arguments": call.arguments}
                message.setdefault("tool_calls", []).append(
                    {"id": call.id, "type": "function", "function": function}
                )
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
    whole = {
        "id": f"chatcmpl-up{created}",
        "object": "chat.completion",
        "created": created,
        "model": answer.model or body["model"],
        "choices": [choice],
        "system_fingerprint": "fp_test",
    }
    if answer.usage:
        whole["usage"] = answer.usage
    return whole


# ---- what it is asked --------------------------------------------------------------------------
@dataclass
class Request:
    """One recorded request."""

    n: int  # from 1
    method: str
    path: str
    headers: dict
    body: object
    complaints: list

    def messages(self, role=None):
        return [m for m in self.body["messages"] if role in (None, m["role"])]

    def text(self, role=None):
        """All text of the messages of a role, one after the other."""
        return "\n".join(text_of(message) for message in self.messages(role))

    def tools(self):
        """Name to declaration."""
        return {tool["function"]["name"]: tool["function"] for tool in self.body.get("tools", [])}

    def tool(self, *ends):
        """The declared tool whose name ends in one of `ends`."""
        for end in ends:
            for name in self.tools():
                if name == end or name.endswith("_" + end) or name.endswith("." + end):
                    return name
        raise LookupError(f"no tool {ends} among {sorted(self.tools())}")


def text_of(message):
    """The text of one message, whatever its form."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content)
    return content or ""


# ---- the server --------------------------------------------------------------------------------
class Upstream:
    """The server, on its own threads, on a free port of loopback.

    `refuse(request)` may add complaints to those of `strict`; any complaint is a 400 and is kept in
    `complaints`.
    """

    scheme = "http"

    def __init__(self, script, refuse=None, port=0, log=None, context=None):
        self.requests = []
        self.complaints = []
        self.script = script
        self.refuse = refuse
        self.log = log
        self.lock = threading.Lock()
        self.server = Server(("127.0.0.1", port), self.handler(), context)
        self.server.upstream = self
        self.port = self.server.server_address[1]
        self.url = f"{self.scheme}://127.0.0.1:{self.port}{CHAT_PATH}"
        self.responses_url = f"{self.scheme}://127.0.0.1:{self.port}{RESPONSES_PATH}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def handler():
        return Handler

    @staticmethod
    def dialect(request):
        """What turns an answer into this request's API."""
        return responses_upstream if request.path == RESPONSES_PATH else sys.modules[__name__]

    def take(self, handler, raw):
        """Records a request and finds its answer."""
        try:
            body = json.loads(raw)
            check = responses_upstream.check_responses if handler.path == RESPONSES_PATH else strict.check_chat
            complaints = check(body)
        except ValueError as error:
            body, complaints = None, [f"the body is not JSON: {error}"]
        with self.lock:
            request = Request(len(self.requests) + 1, handler.command, handler.path, dict(handler.headers), body, complaints)
            self.requests.append(request)
            if self.log:
                record = {"ev": "request", "n": request.n, "method": request.method, "path": request.path, "headers": request.headers, "body": body}
                self.log.write(json.dumps(record, ensure_ascii=False) + "\n")
                self.log.flush()
        if request.path not in (CHAT_PATH, RESPONSES_PATH) or request.method != "POST":
            return request, fail(404, f"no such path: {request.method} {request.path}")
        if request.headers.get("Authorization", request.headers.get("authorization")) != f"Bearer {KEY}":
            complaints.append("the Authorization header does not carry the upstream's key")
            with self.lock:
                self.complaints += complaints
            return request, fail(401, "Incorrect API key provided", "invalid_api_key")
        if not complaints and self.refuse:
            complaints += self.refuse(request) or []
        if complaints:
            with self.lock:
                self.complaints += [f"request {request.n}: {what}" for what in complaints]
            return request, fail(400, "; ".join(complaints))
        try:
            return request, self.answer(request)
        except Exception as error:  # noqa: BLE001  the scenario's own mistake: show it, do not hang the client
            with self.lock:
                self.complaints.append(f"request {request.n}: the script failed: {error!r}")
            return request, fail(400, f"the script failed: {error!r}")

    def answer(self, request):
        if callable(self.script):
            return self.script(request)
        if request.n > len(self.script):
            raise LookupError(f"request {request.n} was not expected: the script has {len(self.script)} answers")
        return self.script[request.n - 1]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address, handler, context=None):
        self.resets = set()
        self.context = context
        super().__init__(address, handler)

    def finish_request(self, request, client_address):
        """On the connection's own thread: a slow handshake holds up nobody else."""
        if self.context:
            request.do_handshake()
        super().finish_request(request, client_address)

    def get_request(self):
        connection, address = super().get_request()
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def reset_when_acknowledged(self, connection):
        """The connection will end in a TCP RST, which must not overtake what was written."""
        deadline = time.monotonic() + 5
        while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"    "))[0] and time.monotonic() < deadline:
            time.sleep(0.001)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.resets.add(connection.fileno())

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # clients may go as they please
            super().handle_error(request, client_address)

    def shutdown_request(self, request):
        if request.fileno() in self.resets:
            self.resets.discard(request.fileno())
            self.close_request(request)  # without the orderly shutdown: that is what makes it a reset
        else:
            super().shutdown_request(request)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        raw = self.body()
        request, answer = self.server.upstream.take(self, raw)
        try:
            self.reply(request, answer)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return whole

    def reply(self, request, answer):
        if answer.delay_s:
            time.sleep(answer.delay_s)
        created = 1_750_000_000 + request.n
        dialect = self.server.upstream.dialect(request)
        stream = answer.error is None and request.body and request.body.get("stream")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("x-request-id", f"req_up_{request.n}")
        if not stream:
            whole = dialect.document(answer, request.body, created) if answer.error is None else answer.error
            raw = whole if isinstance(whole, bytes) else json.dumps(whole, ensure_ascii=False).encode()
            if not any(name.lower() == "content-type" for name in answer.headers):
                self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw if answer.end == "clean" else raw[: len(raw) // 2])
            self.finish_as(answer.end)
            return
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for data in self.writes(dialect.Stream(answer, request.body, created).frames(), answer.write):
            self.send(data)
        if answer.end == "clean":
            self.wfile.write(b"0\r\n\r\n")
        self.finish_as(answer.end)

    def send(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def finish_as(self, end):
        """Leaves the connection to the next request, closes it, or resets it."""
        self.close_connection = self.close_connection or end != "clean"
        if end == "reset":
            self.server.reset_when_acknowledged(self.connection)

    @staticmethod
    def writes(frames, size):
        if size is None:
            yield from frames
            return
        whole = b"".join(frames)
        for at in range(0, len(whole), size):
            yield whole[at : at + size]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--text", default="Hello from the scripted upstream.")
    args = parser.parse_args()
    upstream = Upstream(lambda request: Answer([Text(args.text)]), port=args.port)
    print(f"{upstream.url}   Authorization: Bearer {KEY}", flush=True)
    upstream.thread.join()


if __name__ == "__main__":
    main()
