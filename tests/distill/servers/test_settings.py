"""Addresses and files of servers: what is taken, and what is refused before anything is asked."""

import pytest

from firsttoken.distill.servers.settings import is_server, load_servers
from firsttoken.errors import FirstTokenError


@pytest.mark.parametrize(
    ("given", "url", "root"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1", "http://localhost:8000"),
        ("http:/localhost:8000/v1/", "http://localhost:8000/v1", "http://localhost:8000"),  # as a Path writes it
        ("https://host/v1/chat/completions", "https://host/v1", "https://host"),
        ("https://host/api/openai", "https://host/api/openai", "https://host/api/openai"),
    ],
)
def test_addresses(given, url, root):
    [server] = load_servers(given).servers
    assert (server.url, server.root) == (url, root) and is_server(given)


def test_a_file_of_servers_and_options_that_win(tmp_path, monkeypatch):
    monkeypatch.setenv("K", "secret")
    path = tmp_path / "s.toml"
    path.write_text(
        'omit = ["seed"]\n[request]\ntop_k = 5\n[[server]]\nurl = "http://a"\nkey_variable = "K"\n[[server]]\nurl = "http://b"\nconcurrency = 3\n'
    )
    servers = load_servers(path, model="m", concurrency=None)
    assert [(s.url, s.model, s.concurrency) for s in servers.servers] == [("http://a/v1", "m", 8), ("http://b/v1", "m", 3)]
    assert servers.request == {"top_k": 5} and servers.omit == ("seed",) and "secret" not in repr(servers)
    assert servers.servers[0].key() == "secret" and servers.servers[1].key() is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[server]]\nurl = "http://a"\nconcurency = 3', "concurency is not a known field .did you mean 'concurrency'"),
        (
            '[[server]]\nurl = "http://a"\nkey = "hunter2"',
            "server.0: a key stands in no file; put it into an environment variable and name that with key_variable",
        ),
        ('[[server]]\nurl = "ftp://a"', "expected an address such as"),
        ('[[server]]\nurl = "http://me:hunter2@a"', "an address holds no name, password"),
        ('[[server]]\nurl = "http://a?api_key=hunter2"', "an address holds no name, password"),
        ('[[server]]\nurl = "http://a"\nprice_in = 1.0', "price_in and price_out go together"),
        ('[[server]]\nurl = "http://a"\n[[server]]\nurl = "http://a/v1"', "is named twice"),
        ('[request]\nn = 3\n[[server]]\nurl = "http://a"', "request.n is set by firsttoken"),
        ('[[server]]\nurl = "http://a"\nkey_variable = "NO_SUCH_VARIABLE"', "NO_SUCH_VARIABLE is not set"),
        ('[[server]]\nurl = "http://a"\nkey_variable = "sk-hunter2"', "key_variable is the name of an environment variable"),
        ('[[server]]\nurl = "http://a"\nkey_variable = "hunter2"', "the environment variable that key_variable names is not set"),
        ("server = []", "server"),
        ("[[server", "cannot be read as TOML"),
    ],
)
def test_what_is_refused(text, said, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(FirstTokenError, match=said) as error:
        load_servers(path)
    assert "hunter2" not in str(error.value)


def test_a_password_in_an_address_is_not_repeated(monkeypatch):
    with pytest.raises(FirstTokenError, match="holds no name, password") as error:
        load_servers("https://me:hunter2@host/v1")
    assert "hunter2" not in str(error.value)
    monkeypatch.setenv("K", "two\nlines")
    with pytest.raises(FirstTokenError, match="characters that no header can carry"):
        load_servers("http://a", key_variable="K")
