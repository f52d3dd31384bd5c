"""The server as somebody without a browser meets it: what it gives, takes and keeps."""

import http.client
import json
import socket
import threading
import time
from urllib.parse import urlparse

import pytest
from PIL import Image

from foveate.app.serving import serving, warning_of
from foveate.app.uploads import BYTES
from foveate.errors import FoveateError, OptionError
from tests.app.bad_files import BAD

pytestmark = pytest.mark.slow


def ask(site, path, method="GET", body=None, headers=None):
    at = urlparse(site.url)
    line = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
    line.request(method, path, body, headers or {})
    answer = line.getresponse()
    content = answer.read()
    line.close()
    return answer.status, content, answer.headers


def event(site, name, data, who="tester"):
    """What an event of the page says: the last line of its stream, and whether it succeeded."""
    config = json.loads(ask(site, "/config")[1])
    [number] = [one["id"] for one in config["dependencies"] if one["api_name"] == name]
    body = json.dumps({"fn_index": number, "data": data, "session_hash": who})
    status, content, _ = ask(site, "/gradio_api/queue/join", "POST", body, {"content-type": "application/json"})
    if status != 200:
        return status, content.decode()
    at = urlparse(site.url)
    line = http.client.HTTPConnection(at.hostname, at.port, timeout=120)
    line.request("GET", f"/gradio_api/queue/data?session_hash={who}")
    answer = line.getresponse()
    while True:
        said = json.loads(answer.readline().decode().removeprefix("data: ").strip() or "{}")
        if said.get("msg") == "process_completed":
            line.close()
            return said["success"], json.dumps(said["output"], ensure_ascii=False)


def upload(site, name, content):
    mark = "x" * 30
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + content + f"\r\n--{mark}--\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={mark}"}
    return ask(site, "/gradio_api/upload", "POST", body, headers)


def file_data(path, **more):
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file={material}/outside/report.html",
        "/gradio_api/file={material}/runs/cbam/model/model.json",
        "/gradio_api/file={uploads}",
        "/assets/../../../../../../../../etc/passwd",
        "/static/..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/file=%2fetc%2fpasswd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/config/../../etc/passwd",
    ],
)
def test_no_file_is_given(site, material, path):
    status, content, _ = ask(site, path.format(material=material, uploads=site.uploads))
    assert status == 404 and b"root:" not in content and b"secret" not in content


def test_names_of_uploads_lead_nowhere(site):
    for name in ("../../../../x.png", "/etc/x.png", "..\\..\\x.png", "a/b/x.png", ".", "..", "x" * 300 + ".png"):
        status, content, _ = upload(site, name, b"GIF89a")
        for path in json.loads(content) if status == 200 else ():
            assert path.startswith(f"{site.uploads}/") and "/../" not in path
    assert all(one.resolve().is_relative_to(site.uploads) for one in site.uploads.rglob("*"))


def test_a_picture_is_taken_from_uploads_alone(site, material, tmp_path):
    for path in ("/etc/passwd", str(material / "pictures" / "gradient.png"), f"{site.uploads}/../../../etc/passwd"):
        success, said = event(site, "send", [file_data(path)])
        assert not success or "not one that was sent" in said
        assert "256×256" not in said and "root:" not in said


def test_no_address_is_fetched_for_anybody(site):
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(3)

        def listen():
            try:
                line, _ = server.accept()
                heard.append(line)
                line.close()
            except TimeoutError:
                pass

        listener = threading.Thread(target=listen)
        listener.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.png"
        success, _ = event(site, "send", [file_data(url, url=url)])
        listener.join()
    assert not success and not heard


@pytest.mark.parametrize("what", BAD)
def test_bad_files_without_a_browser(site, what):
    name, content, words = BAD[what]
    status, paths, _ = upload(site, name, content)
    assert status == 200
    success, said = event(site, "send", [file_data(json.loads(paths)[0], orig_name=name)])
    assert success and words in said


def test_what_is_too_long_is_not_taken(site):
    status, said, _ = upload(site, "x.png", b"\0" * (BYTES + 2**17))
    assert status == 413 and b"bytes are taken" in said
    assert not [one for one in site.uploads.rglob("*") if one.is_file() and one.stat().st_size > BYTES]
    status, _, _ = ask(site, "/gradio_api/queue/join", "POST", b"x" * 2**19, {"content-type": "application/json"})
    assert status == 413


def test_handlers_are_reached_by_the_queue_alone(site):
    for path in ("/gradio_api/run/look", "/gradio_api/api/look", "/gradio_api/call/look", "/run/look"):
        assert ask(site, path, "POST", b"{}")[0] == 404


def test_answers_without_a_picture_or_a_network_are_sentences(site):
    success, said = event(site, "costs", [], who="nobody")
    assert success and "no network was asked yet" in said
    success, said = event(site, "look", ["a network and a mechanism", "foveate/resnet8", "none", None], who="nobody2")
    assert success and "no picture yet" in said


def test_headers_keep_the_page_to_itself(site):
    headers = ask(site, "/")[2]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert ask(site, "/", headers={"host": "evil.example"})[0] == 421


def test_everything_goes_when_the_page_ends(material):
    from tests.app.conftest import served

    with served(material, hosts=("foveate/resnet8",)) as mine:
        root = mine.uploads.parent
        Image.new("RGB", (8, 8)).save(root / "x.png")
        assert upload(mine, "x.png", (root / "x.png").read_bytes())[0] == 200
        event(mine, "start", [["squeeze_excite"], 1, 1, 64], who="one")
        [session] = [one for one in mine.handlers.sessions._all.values() if one.comparison]
        running = session.comparison
        assert running.running and list(root.rglob("*.png"))
    for _ in range(50):
        if not root.exists() and not running.running:
            break
        time.sleep(0.1)
    assert not root.exists() and not running.running
    with pytest.raises(OSError):
        ask(mine, "/")


def test_who_else_may_read_along_is_said():
    assert warning_of("localhost") is None
    assert "no password" in warning_of("192.168.1.5")
    with pytest.raises(OptionError, match="no address"):
        warning_of("my.host")


def test_a_port_that_is_taken_is_told_without_gradios_settings(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FoveateError) as refused, serving(port=port):
            pass
    expected = f"port {port} of 127.0.0.1 cannot be used, something else listens there: choose another with --port"
    assert str(refused.value) == expected
