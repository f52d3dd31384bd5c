"""Adapters on a hub: pushed to and fetched from a stand-in that speaks the hub's protocol on this machine."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import torch
from torch import nn

import foveate
from foveate import hosts
from foveate.errors import DataError, FoveateError, MissingExtraError
from foveate.surgery.adapters import save
from foveate.surgery.adapters.hub import from_pretrained, push_to_hub
from foveate.surgery.status import status

constants = pytest.importorskip("huggingface_hub.constants")

TOKEN = "hf_right"  # noqa: S105


class Repositories(ThreadingHTTPServer):
    """Repositories in memory, one commit each time something is pushed."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.commits = {}
        self.private = {}
        self.asked = []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, status, content=b"", **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refused(self):
        return self.headers.get("Authorization") != f"Bearer {TOKEN}"

    def do_POST(self):
        body, path = self.body(), urlsplit(self.path).path
        self.server.asked.append(("POST", path))
        if self.refused():
            return self.reply(
                401, {"error": "Invalid username or password."}, X_Error_Message="Invalid username or password."
            )
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            known = name in self.server.commits
            self.server.commits.setdefault(name, [{}])
            self.server.private.setdefault(name, wanted.get("private") or wanted.get("visibility") == "private")
            where = {"url": f"{self.server.address}/{name}", "name": name}
            return self.reply(409 if known else 200, where)
        if path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        name, _, action = path.removeprefix("/api/models/").rpartition("/")
        name, _, verb = name.rpartition("/")
        if name not in self.server.commits:
            return self.reply(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        if verb == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.reply(200, {"files": files})
        assert (verb, action) == ("commit", "main"), path
        files = dict(self.server.commits[name][-1])
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.server.commits[name].append(files)
        commit = self.oid(name, len(self.server.commits[name]) - 1)
        url = f"{self.server.address}/{name}/commit/{commit}"
        return self.reply(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def oid(self, name, index):
        return hashlib.sha1(f"{name} {index}".encode(), usedforsecurity=False).hexdigest()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path))
        names = [name for name in self.server.commits if f"/{name}/" in f"{path}/"]
        if not names or (self.server.private[names[0]] and self.refused()):
            return self.reply(
                401 if self.refused() else 404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound"
            )
        name = names[0]
        commits = self.server.commits[name]
        known = {self.oid(name, index): index for index in range(len(commits))}
        known["main"] = len(commits) - 1
        rest = path.partition(f"/{name}")[2].strip("/").split("/")
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in known:
            return self.reply(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
        files, commit = commits[known[revision]], self.oid(name, known[revision])
        if path.startswith("/api/models/") and rest[0] in ("", "revision"):
            siblings = [{"rfilename": file} for file in files]
            told = {"private": False, "tags": [], "downloads": 0, "likes": 0}
            return self.reply(
                200, {"_id": "1", "id": name, "modelId": name, "sha": commit, "siblings": siblings, **told}
            )
        if path.startswith("/api/models/") and rest[0] == "tree":
            entries = [
                {
                    "type": "file",
                    "path": file,
                    "size": len(data),
                    "oid": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                }
                for file, data in files.items()
            ]
            return self.reply(200, entries)
        file = "/".join(rest[2:])
        if rest[0] != "resolve" or file not in files:
            return self.reply(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        data = files[file]
        tag = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        return self.reply(200, data, ETag=f'"{tag}"', X_Repo_Commit=commit, Content_Type="application/octet-stream")

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with Repositories() as repositories:
        thread = threading.Thread(target=repositories.serve_forever, daemon=True)
        thread.start()
        yield repositories
        repositories.shutdown()
        thread.join()


def host(seed=0):
    torch.manual_seed(seed)
    return hosts.build("foveate/resnet8", classes=10).eval()


def attended(seed=1, **options):
    model = foveate.attach(host(), "cbam", **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in foveate.attention_parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model.linear.bias.add_(1)
    return model


@torch.no_grad()
def same(one, other):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    return torch.equal(one(x), other(x))


def test_pushed_and_fetched_into_a_fresh_cache(server, tmp_path):
    model = attended()
    url = push_to_hub(model, "me/cbam", token=TOKEN, endpoint=server.address)
    assert url.startswith(f"{server.address}/me/cbam/commit/")
    assert sorted(server.commits["me/cbam"][-1]) == ["README.md", "attention.json", "attention.safetensors"]
    fresh = from_pretrained(host(), "me/cbam", endpoint=server.address, cache_dir=tmp_path / "cache")
    assert same(fresh, model)
    got = {path.rpartition("/")[2] for method, path in server.asked if "/resolve/" in path}
    assert got == {"attention.json", "attention.safetensors"}


def test_revisions_names_and_privacy(server, tmp_path):
    first, second = attended(seed=1), attended(seed=2)
    where = {"endpoint": server.address, "cache_dir": tmp_path / "cache"}
    url = push_to_hub(first, "me/cbam", token=TOKEN, private=True, endpoint=server.address)
    push_to_hub(second, "me/cbam", token=TOKEN, endpoint=server.address)
    assert server.private["me/cbam"] is True
    assert same(from_pretrained(host(), "me/cbam", token=TOKEN, **where), second)
    commit = url.rpartition("/")[2]
    fresh = from_pretrained(host(), "me/cbam", token=TOKEN, revision=commit, name="mine", **where)
    assert same(fresh, first) and status(fresh).attachments[0].name == "mine"
    both = foveate.attach(attended(), "se", name="night")
    push_to_hub(both, "me/night", names=["night"], token=TOKEN, endpoint=server.address)
    fresh = from_pretrained(host(), "me/night", **where)
    assert [entry.name for entry in status(fresh).attachments] == ["night"]


def test_the_card_says_what_it_is_and_how_to_load_it(server):
    def mine(channels):
        return nn.Conv2d(channels, channels, 1)

    model = foveate.attach(attended(), mine)
    push_to_hub(model, "me/both", token=TOKEN, endpoint=server.address)
    card = server.commits["me/both"][-1]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: foveate\n")
    added = (
        sum(p.numel() for _, p in foveate.attention_parameters(model)) + 3 * 3
    )  # each spatial norm has three buffers
    for said in (
        "# Attention for ResNet",
        "- **cbam**: `cbam`, started as identity, at `layer1.0.bn2`, `layer2.0.bn2`, `layer3.0.bn2`",
        f"{added:,} parameters",
        "Of the host's 44 tensors 1 changed in training",
        'foveate.from_pretrained(model, "me/both", factories={"mine": ...})',
    ):
        assert said in card, card


def test_a_hub_that_refuses_is_a_sentence(server, tmp_path):
    where = {"endpoint": server.address, "cache_dir": tmp_path / "cache"}
    with pytest.raises(FoveateError, match="hub refuses access to 'me/cbam'.*hf auth login"):
        push_to_hub(attended(), "me/cbam", token=TOKEN[:-1], endpoint=server.address)
    for token in (None, TOKEN):
        with pytest.raises(FoveateError, match="has no repository 'me/nothing'"):
            from_pretrained(host(), "me/nothing", token=token, **where)
    push_to_hub(attended(), "me/cbam", token=TOKEN, endpoint=server.address)
    with pytest.raises(FoveateError, match="no such revision"):
        from_pretrained(host(), "me/cbam", revision="v9", **where)
    for name in ("me/cb am", "--"):
        with pytest.raises(FoveateError, match="no name of a repository"):
            from_pretrained(host(), name, **where)
        with pytest.raises(FoveateError, match="no name of a repository"):
            push_to_hub(attended(), name, token=TOKEN, endpoint=server.address)


def test_a_hub_that_is_not_there_and_a_repository_without_an_adapter(server, tmp_path):
    server.commits["me/other"], server.private["me/other"] = [{"model.bin": b"x"}], None
    with pytest.raises(DataError, match="'me/other' holds no adapter"):
        from_pretrained(host(), "me/other", endpoint=server.address, cache_dir=tmp_path / "cache")
    with pytest.raises(FoveateError, match="'me/cbam'"):
        from_pretrained(host(), "me/cbam", endpoint="http://127.0.0.1:9", cache_dir=tmp_path / "cache")


def test_another_host_is_refused_as_by_load(server, tmp_path):
    push_to_hub(attended(), "me/cbam", token=TOKEN, endpoint=server.address)
    with pytest.raises(FoveateError, match="other weights"):
        from_pretrained(host(seed=3), "me/cbam", endpoint=server.address, cache_dir=tmp_path / "cache")


def test_a_folder_needs_no_hub(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    model = attended()
    save(model, "adapter")
    assert same(from_pretrained(host(), "adapter"), model)
    assert same(from_pretrained(host(), tmp_path / "adapter"), model)
    for wrong in (tmp_path / "nothing", "./nothing", str(tmp_path / "nothing")):
        with pytest.raises(DataError, match="does not exist"):
            from_pretrained(host(), wrong)
    with pytest.raises(MissingExtraError, match=r"foveate\[hub\]"):
        from_pretrained(host(), "me/cbam")
    with pytest.raises(MissingExtraError, match=r"foveate\[hub\]"):
        push_to_hub(model, "me/cbam")
