"""The variables of `.env` beyond the path of the documents: other credentials, TLS, and callers of their own."""
import base64
import contextlib

import openai
import place as at
from harness import equal, expect

USER, PASSWORD = at.ACCOUNT.split(":")
CALLER = "anna:her-secret"
READY = "ready-token-0123456789"
NO_ROOT = {"GIGACHAT_CA_BUNDLE_FILE": None}


def text(place, key=at.KEY, model=at.MODEL):
    """What a client with this key is told."""
    with contextlib.closing(openai.OpenAI(base_url=place.url, api_key=key, max_retries=0, timeout=30)) as client:
        return client.responses.create(model=model, input="Name it.").output_text


def answers(place, key=at.KEY):
    equal(text(place, key), "größe 日本語", "the answer")
    place.mock.holds()


def env_password(options, folder):
    changes = {"GIGACHAT_CREDENTIALS": None, "GIGACHAT_USER": USER, "GIGACHAT_PASSWORD": PASSWORD}
    with at.open_place(options.patchbay, folder, changes) as place:
        answers(place)


def env_ready_token(options, folder):
    changes = {"GIGACHAT_CREDENTIALS": None, "GIGACHAT_ACCESS_TOKEN": READY}
    with at.open_place(options.patchbay, folder, changes, mock_args=["--access-token", READY]) as place:
        answers(place)
        equal(place.mock.counters()["tokens"], 0, "the tokens that were asked for")
        expect(READY not in place.proxy.said(), "the token is in the log")


def env_unknown_root(options, folder):
    """Without the root nothing goes upstream, and the client is told what is missing."""
    with at.open_place(options.patchbay, folder, NO_ROOT) as place:
        told = ""
        try:
            text(place)
        except openai.APIStatusError as error:
            told = str(error)
        expect("GIGACHAT_CA_BUNDLE_FILE" in told + place.proxy.said(), "the remedy is not named", told, place.proxy.said())
        equal(place.mock.counters()["accounts"], {}, "the accounts seen")
        return told


def env_unverified(options, folder):
    with at.open_place(options.patchbay, folder, NO_ROOT | {"GIGACHAT_VERIFY_SSL_CERTS": "False"}) as place:
        answers(place)
        said = place.proxy.said()
        expect("warning: certificates of the provider gigachat" in said, "nothing warns", said)


def env_client_certificate(options, folder):
    """Only who shows a certificate of the root is let in."""

    def asks(folder):
        return ["--tls-client-ca", folder / "tls" / "root.pem"]

    with at.open_place(options.patchbay, folder / "without", mock_args=asks(folder / "without")) as place:
        try:
            told = text(place)
        except openai.APIStatusError as error:
            told = None
            expect(error.status_code >= 500, "the status", error.status_code)
        equal(told, None, "the answer without a certificate")

    def shown(mock):
        return {"GIGACHAT_CERT_FILE": mock.authority.certificate, "GIGACHAT_KEY_FILE": mock.authority.key}

    with at.open_place(options.patchbay, folder / "with", shown, mock_args=asks(folder / "with")) as place:
        answers(place)


def env_callers(options, folder):
    """Callers with accounts of their own; the server's is never used for one."""
    changes = {"GPT2GIGA_PASS_TOKEN": "True", "GPT2GIGA_ENABLE_API_KEY_AUTH": "False", "GPT2GIGA_API_KEY": None}
    key = base64.b64encode(CALLER.encode()).decode()
    with at.open_place(options.patchbay, folder, changes, mock_args=["--account", CALLER, "--access-token", READY]) as place:
        for bad in ("giga-user-anna:wrong", f"giga-auth-not-{READY}", f"giga-cred-{base64.b64encode(b'anna:wrong').decode()}"):
            try:
                text(place, bad)
                expect(False, f"{bad} is served")
            except openai.AuthenticationError as error:
                expect("wrong" not in str(error) and READY not in str(error), "a secret is in an error", str(error))
        for good in (f"giga-user-{CALLER}", f"giga-auth-{READY}", f"giga-cred-{key}:GIGACHAT_API_PERS", f"giga-cred-{key}"):
            equal(text(place, good), "größe 日本語", "the answer to a caller")
        requests = {name: account["requests"] for name, account in place.mock.counters()["accounts"].items()}
        equal((requests.get(USER, 0), requests["anna"], requests["access-token"]), (0, 3, 1), "whose requests they were")
        for secret in (CALLER, key, READY):
            expect(secret not in place.proxy.said(), "a secret is in the log")


def env_without_meaning(options, folder):
    """A variable that changes nothing here is named at the start."""
    changes = {"GPT2GIGA_LOGS_IP_ALLOWLIST": "127.0.0.1", "GPT2GIGA_TRAFFIC_LOG_ENABLED": "True"}
    with at.open_place(options.patchbay, folder, changes) as place:
        said = place.proxy.said()
        for name in changes:
            expect(name in said, f"{name} is ignored in silence", said)
        answers(place)


def env_one_model(options, folder):
    """Every request goes to the server's model where clients' names are not passed."""
    with at.open_place(options.patchbay, folder, {"GPT2GIGA_PASS_MODEL": "False"}) as place:
        equal(text(place, model="gpt-5.2"), "größe 日本語", "the answer")
        place.mock.holds()


CASES = [
    env_password, env_ready_token, env_unknown_root, env_unverified, env_client_certificate, env_callers, env_without_meaning, env_one_model,
]
