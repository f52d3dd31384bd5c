"""Twenty people at once on the page, for five minutes: does it stay up, leak, or mix people up?

Run it with the time in seconds: ``python -m benchmarks.app_load 300``. It starts `foveate app` as a process of its own
and speaks to it as browsers do: sessions come and go, send pictures good and bad, look, ask positions, change networks,
open reports, start and stop comparisons. Everybody's picture has a colour of its own, and every answer shows the
picture that it is about, so a mix-up is seen.

It fails unless: the server lives and answers at the end; no answer shows another's picture; no request fails other than
by a sentence of the page or the queue's "full"; the memory of the server after the last quarter is at most GROWTH above
that after the first; and when everybody has left, no session and no file of theirs is there.
"""

import base64
import contextlib
import http.client
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from foveate.app.serving import KEPT, SWEEP
from foveate.app.tab_look import BUILT, TRAINED
from foveate.measure import Conditions
from foveate.train.assembly import Assembly, save_model

PEOPLE, SECONDS = 20, 300
GROWTH = 200  # MB of memory between a quarter of the time and its end
MECHANISMS = ("se", "eca", "cbam", "psanet", "non_local", "coordinate", "simam", "global_context", "none")
OUT = Path(__file__).parent / "results" / "app_load.json"


@dataclass
class Heard:
    """What came of all requests."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: list[tuple[float, float, int, int]] = field(default_factory=list)


class Person(threading.Thread):
    """One who comes, looks at things, and goes; again and again."""

    def __init__(self, number: int, port: int, until: float, heard: Heard, events: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self.port, self.until, self.heard, self.events = port, until, heard, events
        self.chance = random.Random(number)  # noqa: S311 (who does what)
        # as far apart as twenty colours can be in two channels, far beyond what a mean of pixels loses
        self.colour = (20 + 50 * (number % 5), 20 + 60 * (number // 5), 128)

    def run(self) -> None:
        """Visit until time is up."""
        while time.monotonic() < self.until:
            who = f"{self.chance.getrandbits(60):x}"
            stay = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                stay.request("GET", f"/gradio_api/heartbeat/{who}")  # a browser keeps it open, and leaves by closing it
                stay.getresponse().read(1)
                self._visit(who)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.heard.wrong.append(f"{type(error).__name__}: {error}"[:300])
                time.sleep(0.5)
            finally:
                stay.close()

    def _visit(self, who: str) -> None:
        if not self._send(who):
            return
        looked = False
        for _ in range(self.chance.randint(3, 10)):
            if time.monotonic() > self.until:
                return
            what = self.chance.choices(
                ["run", "host", "ask", "one_map", "evidence", "bad", "send", "report", "compare", "beside"],
                [4, 3, 8, 3, 2, 2, 2, 1, 1, 1],
            )[0]
            if what == "run":
                looked = self._look(who, [TRAINED, "foveate/resnet8", "none", "psanet"])
            elif what == "host":
                self._look(who, [BUILT, "foveate/resnet8", self.chance.choice(MECHANISMS), None])
                looked = False  # what is asked below are names of the run's maps
            elif what == "ask" and looked:
                place = [self.chance.randint(1, 4), self.chance.randint(1, 4)]
                name = f"layer3.0.bn2 · psanet · {self.chance.choice(['collect', 'distribute'])}"
                self._event(who, "ask_row", [name, "where this position looks", *place])
            elif what == "one_map" and looked:
                self._event(who, "one_map", ["layer3.0.bn2 · psanet · collect"])
            elif what == "evidence" and looked:
                self._event(who, "evidence_target", [None, self.chance.choice(["gradcam", "layercam"])])
            elif what == "bad":
                self._bad(who)
            elif what == "send":
                self._send(who)
            elif what == "report":
                self._event(who, "report", ["your comparison"])
            elif what == "compare":
                self._event(who, "start", [["squeeze_excite"], 1, 1, 64])
                if self.chance.random() < 0.5:
                    self._event(who, "stop", [])
            elif what == "beside":
                said = self._event(who, "beside", ["cbam", "psanet"])
                self._mine(said, "beside")

    def _send(self, who: str) -> bool:
        content = io.BytesIO()
        side = self.chance.randint(30, 400)
        Image.new("RGB", (side, side), self.colour).save(content, format="PNG")
        said = self._event(who, "send", [self._upload("mine.png", content.getvalue())])
        return self._mine(said, "send")

    def _bad(self, who: str) -> None:
        content = self.chance.choice([b"", b"text", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"<svg/>"])
        said = self._event(who, "send", [self._upload("../../x.png", content)])
        if said is not None and "fo-refusal" not in said:
            self.heard.wrong.append("a bad file was not refused")
        self._send(who)

    def _look(self, who: str, data: list[object]) -> bool:
        return self._mine(self._event(who, "look", data), "look")

    def _mine(self, said: str | None, what: str) -> bool:
        """Whether the picture that an answer is about is this person's."""
        if said is None:
            return False
        found = re.findall(r"data:image/png;base64,([\w+/=]+)", said)
        if not found:
            self.heard.wrong.append(f"{what} shows no picture: {re.sub('<[^>]*>', ' ', said)[:200]}")
            return False
        pixel = Image.open(io.BytesIO(base64.b64decode(found[0]))).convert("RGB").getpixel((3, 3))
        if max(abs(one - other) for one, other in zip(pixel, self.colour, strict=True)) > 3:
            self.heard.wrong.append(f"{what} shows {pixel}, and this person's colour is {self.colour}")
            return False
        self.heard.counts["pictures that were one's own"] += 1
        return True

    def _upload(self, name: str, content: bytes) -> dict[str, object]:
        mark = "x" * 30
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        body = head + content + f"\r\n--{mark}--\r\n".encode()
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        line.request("POST", "/gradio_api/upload", body, {"content-type": f"multipart/form-data; boundary={mark}"})
        answer = line.getresponse()
        [path] = json.loads(answer.read())
        line.close()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def _event(self, who: str, name: str, data: list[object]) -> str | None:
        """What the page says, as one string; ``None`` where the queue is full."""
        began = time.monotonic()
        body = json.dumps({"fn_index": self.events[name], "data": data, "session_hash": who})
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        line.request("POST", "/gradio_api/queue/join", body, {"content-type": "application/json"})
        answer = line.getresponse()
        content = answer.read().decode()
        line.close()
        if answer.status == 503:
            self.heard.counts["queue full"] += 1
            return None
        if answer.status != 200:
            raise ValueError(f"{name}: {answer.status} {content[:200]}")
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        line.request("GET", f"/gradio_api/queue/data?session_hash={who}")
        stream = line.getresponse()
        while True:
            read = stream.readline()
            if not read:
                raise ValueError(f"{name}: the stream ended without an answer")
            said = json.loads(read.decode().removeprefix("data: ").strip() or "{}")
            if said.get("msg") == "process_completed":
                line.close()
                break
        self.heard.counts[name] += 1
        self.heard.seconds.setdefault(name, []).append(time.monotonic() - began)
        if not said["success"]:
            raise ValueError(f"{name}: {json.dumps(said['output'])[:300]}")
        return json.dumps(said["output"], ensure_ascii=False)


def memory_of(pid: int) -> float:
    """Megabytes of a process that are its own."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1000


def files_in(folder: Path) -> tuple[int, int]:
    """Files in a folder, and its sessions' folders."""
    sessions = len(list((folder / "sessions").iterdir()))
    return sum(len(files) for _, _, files in os.walk(folder)), sessions  # unlike rglob, it minds no folder that goes


def main() -> int:
    """Do it, print what was seen, and write it down."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 7899
    with tempfile.TemporaryDirectory() as material:
        runs, temporary = Path(material, "runs"), Path(material, "tmp")
        temporary.mkdir()
        one = Assembly("classification", "foveate/resnet8", ("a", "b"), 3, "cbam", None, "paper", {"size": 32})
        for name in ("cbam", "psanet"):
            torch.manual_seed(0)
            assembly = replace(one, attention=name)
            save_model(runs / name / "model", assembly.build()[0], assembly)
        command = [sys.executable, "-m", "foveate", "app", "--port", str(port), "--checkpoints", str(runs)]
        command += ["--hosts", "foveate/resnet8"]
        with Path(material, "log").open("w") as log:
            own = {**os.environ, "TMPDIR": str(temporary)}
            server = subprocess.Popen(command, stdout=log, stderr=log, env=own)  # noqa: S603
        try:
            found = _load(server, port, seconds, temporary)
        finally:
            server.terminate()
            server.wait(60)
        found["left behind"] = [one.name for one in temporary.iterdir()]
        found["log"] = [line for line in Path(material, "log").read_text().splitlines() if "Error" in line][:20]
    after = found["after"]
    stayed = found["wrong"] or found["left behind"] or after["sessions"] or after["files"]
    failed = bool(stayed) or not found["lives"] or found["growth_mb"] > GROWTH
    found["passed"] = not failed
    print(json.dumps(found, indent=1, ensure_ascii=False))
    OUT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return 1 if failed else 0


def _load(server: subprocess.Popen[bytes], port: int, seconds: int, temporary: Path) -> dict[str, Any]:
    config = None
    for _ in range(240):
        with contextlib.suppress(OSError):
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            line.request("GET", "/config")
            config = json.loads(line.getresponse().read())
            break
        time.sleep(0.5)
    assert config is not None, "the server did not come up"
    events = {one["api_name"]: one["id"] for one in config["dependencies"] if isinstance(one["api_name"], str)}
    heard, began = Heard(), time.monotonic()
    people = [Person(number, port, began + seconds, heard, events) for number in range(PEOPLE)]
    for person in people:
        person.start()
    [root] = temporary.glob("foveate-app-*")
    while any(person.is_alive() for person in people) and server.poll() is None:
        heard.memory.append((time.monotonic() - began, memory_of(server.pid), *files_in(root)))
        if len(heard.memory) % 10 == 0:
            print(*heard.memory[-1], dict(heard.counts), heard.wrong[-1:], file=sys.stderr, flush=True)
        time.sleep(2)
    lives = server.poll() is None
    for _ in range(int(KEPT + 3 * SWEEP)):
        files, sessions = files_in(root)
        if not files and not sessions:
            break
        time.sleep(1)
    warm = [row[1] for row in heard.memory if 0.2 * seconds < row[0] < 0.3 * seconds]
    late = [row[1] for row in heard.memory if row[0] > 0.9 * seconds]
    middle = sorted(late)[len(late) // 2] if late else 0.0
    start = sorted(warm)[len(warm) // 2] if warm else 0.0
    times = {name: sorted(values) for name, values in heard.seconds.items()}
    return {
        "question": "twenty people at once: does the page stay up, leak, or mix people up?",
        "seconds": seconds,
        "people": PEOPLE,
        "lives": lives,
        "wrong": heard.wrong[:20],
        "counts": dict(heard.counts),
        "median_s": {name: round(values[len(values) // 2], 2) for name, values in times.items()},
        "p95_s": {name: round(values[int(0.95 * (len(values) - 1))], 2) for name, values in times.items()},
        "memory_mb": {
            "first": heard.memory[0][1],
            "warm": start,
            "end": middle,
            "most": max(r[1] for r in heard.memory),
        },
        "growth_mb": round(middle - start, 1),
        "growth_allowed_mb": GROWTH,
        "files_at_most": max(row[2] for row in heard.memory),
        "sessions_at_most": max(row[3] for row in heard.memory),
        "after": {"files": files, "sessions": sessions, "memory_mb": memory_of(server.pid) if lives else None},
        "conditions": Conditions.here("cpu", torch.float32).as_dict(),
    }


if __name__ == "__main__":
    sys.exit(main())
