"""A page that is served, and a browser to use it with."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from PIL import Image

from foveate.app.serving import serving
from foveate.train.assembly import Assembly, save_model

ARGUMENTS = (
    "--no-sandbox",
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="this uses the page as a person does: it needs Debian's package chromium and the package playwright",
)
REPORT = "<!doctype html><title>r</title><h1>A study of hats</h1><script>parent.document.title='owned'</script>"


@pytest.fixture(scope="session")
def material(tmp_path_factory):
    """Folders of runs, of studies and of pictures, with something beside them that must not be reached."""
    root = tmp_path_factory.mktemp("material")
    garment = Assembly("classification", "foveate/resnet8", ("hat", "<b>shoe</b>", "scarf"), 3, "cbam", None, "paper",
                       {"size": 32})  # fmt: skip
    for name, assembly in {
        "cbam": garment,
        "psanet": replace(garment, attention="psanet"),
        "plain": replace(garment, attention=None),
    }.items():
        torch.manual_seed(len(name))
        save_model(root / "runs" / name / "model", assembly.build()[0], assembly)
    (root / "studies" / "hats").mkdir(parents=True)
    (root / "studies" / "hats" / "report.html").write_text(REPORT)
    (root / "outside").mkdir()
    (root / "outside" / "report.html").write_text("secret")
    (root / "studies" / "link").symlink_to(root / "outside")
    save_model(root / "outside" / "run", garment.build()[0], garment)
    (root / "runs" / "link").symlink_to(root / "outside" / "run")
    (root / "pictures").mkdir()
    Image.linear_gradient("L").convert("RGB").save(root / "pictures" / "gradient.png")
    return root


@contextmanager
def served(material, **more):
    folders = {"checkpoints": "runs", "studies": "studies", "images": "pictures"}
    with serving(port=None, **{name: material / folder for name, folder in folders.items()}, **more) as site:
        yield site


@pytest.fixture(scope="session")
def site(material):
    """A page at a free port."""
    with served(material, hosts=("foveate/resnet8", "torchvision/mobilenet_v3_small")) as site:
        yield site


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def page(site, browser):
    """A page that is loaded; whatever it asks of others than the server, or says of errors, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    wrong = []
    own = (site.url, "data:", "blob:", "about:")
    page.on("request", lambda one: None if one.url.startswith(own) else wrong.append(f"asked {one.url}"))
    page.on("pageerror", lambda error: wrong.append(f"raised {error}"))
    page.set_default_timeout(30_000)
    page.goto(site.url)
    page.wait_for_selector("#picture img")
    yield page
    context.close()
    assert not wrong
