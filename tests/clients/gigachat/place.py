"""The scripted GigaChat over TLS with a root of its own, and `patchbay serve --preset gigachat` in front of it, as
its users start it: a `.env`, and nothing else."""
import base64
import contextlib
import getpass
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness  # noqa: E402
from harness import Failed, expect  # noqa: E402

ACCOUNT = "3f1c9a5e-client:9b2d-secret"
CREDENTIALS = base64.b64encode(ACCOUNT.encode()).decode()
KEY = "key-of-the-proxy-0123456789"
MODEL = "GigaChat-2-Max"
TOKEN_MS = 1000
TRICKY = 'He said "hi" \\ \\n \t <b>\u2028 größe 日本語 👩‍👩‍👧 {"a": [1]} end.'
# A picture of one pixel.
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
CITY = {"name": "Köln", "people": 1087863}
# What the model says, by what the user said last.
SCENES = [
    {"when": "Say it", "text": TRICKY},
    {"when": "Look", "calls": [{"name": "look", "arguments": {"path": "größe.txt"}}], "text": "It says {results}"},
    {"when": "Which city", "calls": [{"name": "structured_answer", "arguments": CITY}], "text": json.dumps(CITY, ensure_ascii=False)},
    {"when": "Name it", "text": "größe 日本語"},
    {"when": "What is on it", "text": "I see {attachments} picture."},
    {
        "when": "Take your time",
        "calls": [{"name": "exec_command", "arguments": {"cmd": f"sleep {TOKEN_MS / 1000 + 0.2}; echo step {n}"}} for n in (1, 2, 3)],
        "text": "Three steps: {results}",
    },
    {"when": "Make a file", "calls": [{"name": "exec_command", "arguments": {"cmd": "printf 'a\"b' > made.txt; cat made.txt"}}], "text": "The file is there: {results}"},
]


@dataclass
class Authority:
    """A root that nobody knows, and a certificate of it for this machine, as a server and as a client."""

    root: Path
    certificate: Path
    key: Path


def make_authority(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = Authority(folder / "root.pem", folder / "chain.pem", folder / "key.pem")
    root_key, asked, extensions = folder / "root.key", folder / "asked.pem", folder / "extensions.txt"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-days", "2", "-subj", "/CN=Root of a test", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", root_key, "-out", made.root)
    openssl("req", *curve, "-subj", "/CN=localhost", "-keyout", made.key, "-out", asked)
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl("x509", "-req", "-in", asked, "-CA", made.root, "-CAkey", root_key, "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", made.certificate)
    return made


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    expect(done.returncode == 0, "openssl failed", done.stderr)


class Process:
    """A server that runs until it is closed."""

    def __init__(self, command, folder, name):
        self.log = open(Path(folder) / f"{name}.log", "wb")
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=folder)
        self.name, self.path = name, Path(self.log.name)

    def said(self):
        return self.path.read_text(errors="replace")[-3000:]

    def wait_for(self, found):
        """What `found()` gives once it gives something."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}: {self.said()}")
            if (value := found()) is not None:
                return value
            time.sleep(0.01)
        raise Failed(f"{self.name} did not start in 20 s: {self.said()}")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed(f"{self.name} did not end within 20 s") from None
        finally:
            self.log.close()


class Mock(Process):
    """`patchbay mock --dialect gigachat`, which knows one account."""

    def __init__(self, binary, authority, folder, args=()):
        self.authority = authority
        scenes, info = folder / "scenes.json", folder / "mock-info.json"
        scenes.write_text(json.dumps(SCENES, ensure_ascii=False))
        super().__init__(
            [
                binary, "mock", "--dialect", "gigachat", "--port", 0, "--server-info", info, "--scenes", scenes,
                "--tls-cert", authority.certificate, "--tls-key", authority.key,
                "--account", ACCOUNT, "--scope", "GIGACHAT_API_PERS", "--token-lifetime-ms", TOKEN_MS, *args,
            ],
            folder, "mock",
        )
        self.trust = ssl.create_default_context(cafile=authority.root)
        self.trust.load_cert_chain(authority.certificate, authority.key)
        self.port = self.wait_for(lambda: json.loads(info.read_text())["port"] if info.exists() and info.read_text() else None)
        self.host = f"https://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, **fields):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.trust)
        connection.request(method, path, body, fields)
        told = json.loads(connection.getresponse().read())
        connection.close()
        return told

    def counters(self):
        return self.ask("GET", "/counters")["gigachat"]

    def lose_files(self):
        """Deletes all files of the account, as its owner might elsewhere."""
        bearer = f"Bearer {self.ask('POST', '/api/v1/token', Authorization=f'Basic {CREDENTIALS}')['tok']}"
        files = self.ask("GET", "/api/v1/files", Authorization=bearer)["data"]
        for file in files:
            self.ask("POST", f"/api/v1/files/{file['id']}/delete", Authorization=bearer)
        return len(files)

    def holds(self, allowed=()):
        """Nothing was refused but what expired on its way, or what the case provokes."""
        refusals = {reason: count for reason, count in self.counters()["refusals"].items() if reason not in ("expired_token", *allowed)}
        expect(not refusals, "GigaChat refused something", refusals)


@dataclass
class Place:
    mock: Mock
    proxy: harness.Patchbay
    authority: Authority
    folder: Path

    @property
    def url(self):
        return f"http://localhost:{self.proxy.port}"


@contextlib.contextmanager
def open_mock(binary, folder, args=()):
    """The mock alone, in a folder of its own."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run kept
    folder.mkdir(parents=True)
    with contextlib.closing(Mock(binary, make_authority(folder / "tls"), folder, args)) as mock:
        yield mock


@contextlib.contextmanager
def open_place(binary, folder, changes=None, port="0", keep=False, mock_args=()):
    """The mock, and the preset with the `.env` of the documents, as far as `changes` does not say otherwise: names with
    values, `None` for those that are left out, or a function that makes them for a mock."""
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(open_mock(binary, folder, mock_args))
        authority = mock.authority
        variables = {
            "GIGACHAT_CREDENTIALS": CREDENTIALS,
            "GIGACHAT_SCOPE": "GIGACHAT_API_PERS",
            "GIGACHAT_MODEL": MODEL,
            "GPT2GIGA_ENABLE_API_KEY_AUTH": "True",
            "GPT2GIGA_API_KEY": KEY,
            "GIGACHAT_BASE_URL": f"{mock.host}/api/v1",
            "GIGACHAT_AUTH_URL": f"{mock.host}/api/v2/oauth",
            "GIGACHAT_CA_BUNDLE_FILE": authority.root,
        }
        variables |= changes(mock) if callable(changes) else changes or {}
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items() if value is not None))
        args = ["--preset", "gigachat"] + (["--capture", str(folder / "capture")] if keep else [])
        proxy = harness.Patchbay(binary, None, folder, None, args, {"HOME": str(folder)}, port=port)
        stack.callback(proxy.close)
        yield Place(mock, proxy, authority, folder)
        for secret in (CREDENTIALS, ACCOUNT, KEY, "mock-token"):
            expect(secret not in proxy.said(), "a secret is in the proxy's log")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def is_free(port):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


NGINX = """
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    client_max_body_size 64m;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {authority.certificate};
        ssl_certificate_key {authority.key};
        location / {{
            proxy_pass http://127.0.0.1:{proxy};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_buffering off;
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(place):
    """nginx with TLS in front of the proxy; gives its URL."""
    folder = place.folder / "nginx"
    folder.mkdir()
    port = free_port()
    # Its workers keep long bodies in the folder, which is its owner's alone.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(user=user, port=port, authority=place.authority, proxy=place.proxy.port))
    server = Process(["nginx", "-p", folder, "-c", "nginx.conf"], folder, "nginx")
    try:
        server.wait_for(lambda: True if listens(port) else None)
        yield f"https://localhost:{port}"
    finally:
        server.close()


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def base_environment(home):
    return {"PATH": os.environ["PATH"], "HOME": str(home)}
