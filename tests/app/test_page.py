"""The page, used as a person uses it: every control, by pointer, by keyboard, on a phone, and with bad files."""

import re
import time

import pytest

from tests.app.bad_files import BAD, animated, written
from tests.app.conftest import needs_browser

pytestmark = [pytest.mark.slow, needs_browser]


def choose(page, control, text):
    """Choose from a list that one may type into."""
    box = page.locator(f"#{control} input")
    box.click()
    box.fill("")
    box.press_sequentially(text)
    page.get_by_role("option", name=text, exact=True).first.click()


def look(page, *, run=None, host=None, mechanism=None):
    if run is not None:
        page.get_by_label("a trained run").check()
        choose(page, "run", run)
    if host is not None:
        page.get_by_label("a network and a mechanism").check()
        page.wait_for_selector("#host input")
        choose(page, "host", host)
    if mechanism is not None:
        box = page.locator("#mechanism input")
        box.fill(mechanism)
        box.press("Enter")
    page.click("#look")
    page.wait_for_function("document.querySelector('#answer img') || document.querySelector('#refusal .fo-refusal')")


def refused(page, words, box="#refusal"):
    """Wait until a refusal says these words."""
    page.wait_for_function(
        "([box, words]) => document.querySelector(box + ' .fo-refusal')?.innerText.includes(words)", arg=[box, words]
    )
    return page.inner_text(f"{box} .fo-refusal")


def source_of(page, where="#pad"):
    return page.get_attribute(f"{where} img", "src")


def changed(page, before, where="#pad"):
    page.wait_for_function(
        "([where, before]) => document.querySelector(where + ' img')?.getAttribute('src') !== before",
        arg=[where, before],
    )
    return source_of(page, where)


def test_a_run_is_looked_at_with_every_control(page):
    assert page.locator("#run input").input_value() == "cbam"  # trained runs come first where there are any
    look(page, run="psanet")
    assert "psanet" in page.inner_text("#answer") and "random" not in page.inner_text("#answer")
    assert page.locator("#answer b b").count() == 0 and "<b>shoe</b>" in page.inner_text("#answer")  # a class's name
    assert "stage by stage" in page.inner_text("#maps").lower()
    single = page.inner_html("#single")
    choose(page, "one-map", "layer3.0.bn2 · psanet · collect")
    page.wait_for_function("before => document.querySelector('#single').innerHTML !== before", arg=single)
    evidence = page.inner_html("#evidence")
    choose(page, "method", "eigencam")
    page.wait_for_function("before => document.querySelector('#evidence').innerHTML !== before", arg=evidence)
    choose(page, "target", "scarf")
    page.wait_for_function("document.querySelector('#evidence').innerText.includes('scarf')")
    page.click("#places-box button")
    assert "layer1.0.bn2" in page.inner_text("#places")
    page.click("#numbers-box button")
    page.click("#price")
    page.wait_for_selector("#costs table")
    assert "parameters" in page.inner_text("#costs") and "rounds in turn" in page.inner_text("#costs")
    page.click("#judge")
    page.wait_for_selector("#trust table")
    assert "a random order" in page.inner_text("#trust")


def test_an_affinity_is_asked_by_pointer_by_arrow_keys_and_by_sliders(page):
    look(page, run="psanet")
    before = source_of(page)
    box = page.locator(".fo-frame").bounding_box()
    page.mouse.click(box["x"] + 5, box["y"] + 5)
    before = changed(page, before)
    assert "Row 1 of" in page.inner_text("#pad figcaption") and "column 1 of" in page.inner_text("#pad figcaption")
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    for share in (0.3, 0.6, 0.99):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + share * box["height"], steps=4)
    page.mouse.up()
    page.wait_for_function(r"/Row (\d+) of \1,/.test(document.querySelector('#pad figcaption').innerText)")
    page.wait_for_timeout(600)
    last = page.inner_text("#pad figcaption")
    rows, columns = (int(one) for one in re.search(r"Row \d+ of (\d+), column \d+ of (\d+)", last).groups())
    assert f"Row {rows} of {rows}, column {columns} of {columns}" in last  # where the pointer was let go
    page.locator(".fo-frame").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"document.querySelector('#pad figcaption').innerText.includes('column {columns - 1} of')")
    assert page.evaluate("document.activeElement.classList.contains('fo-frame')")  # and so is the next key
    page.keyboard.press("ArrowUp")
    page.wait_for_function(f"document.querySelector('#pad figcaption').innerText.includes('Row {rows - 1} of')")
    page.locator("#row input[type=range]").focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('#pad figcaption').innerText.includes('Row 1 of')")
    assert page.locator("#column input[type=range]").input_value() == str(columns - 1)
    before = source_of(page)
    page.get_by_label("who looks at this position").check()
    changed(page, before)
    assert "who looks at this position" in page.inner_text("#pad figcaption")
    choose(page, "related", "layer1.0.bn2 · psanet · collect")
    page.wait_for_function("document.querySelector('#pad figcaption').innerText.startsWith('layer1.0.bn2')")


def test_a_network_without_relations_has_nothing_to_ask(page):
    look(page, run="psanet")
    page.wait_for_selector("#pad", state="visible")
    look(page, run="cbam")
    page.wait_for_selector("#pad", state="hidden")
    look(page, run="plain")
    page.wait_for_function("document.querySelector('#maps').innerText.includes('no attention')")


def test_random_weights_are_said(page):
    look(page, host="foveate/resnet8 (random weights)", mechanism="non_local")
    page.wait_for_function("document.querySelector('#answer').innerText.includes('weights of this network are random')")
    assert "has learned nothing" in page.inner_text("#answer")
    page.click("#places-box button")
    assert "non_local: 3 places" in page.inner_text("#places")
    look(page, mechanism="cbam:reduction=8")
    page.wait_for_function("document.querySelector('#answer').innerText.includes('cbam:reduction=8')")


@pytest.mark.parametrize("mechanism", ["cbma", "cbam:reduction=0", "se:colour=red", "<img src=x onerror=alert(1)>"])
def test_a_mechanism_that_is_none_is_refused_in_words(page, mechanism):
    look(page, host="foveate/resnet8 (random weights)", mechanism=mechanism)
    said = refused(page, "")
    assert "something went wrong" not in said and len(said) > 20
    assert page.locator("#refusal img").count() == 0


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_in_words_and_the_page_goes_on(page, tmp_path, what):
    page.set_input_files("#sent input[type=file], input[type=file]", written(tmp_path, what))
    refused(page, BAD[what][2])
    assert page.title() == "foveate: see attention"
    page.click("#look")
    refused(page, "no picture yet")  # not the one before
    choose(page, "picked", "garment: Bag")
    page.wait_for_selector("#refusal .fo-refusal", state="detached")
    look(page, run="cbam")
    assert page.locator("#answer img").count() == 1


def test_a_name_that_leads_elsewhere_is_a_name(page, site):
    content = animated()
    page.set_input_files("input[type=file]", {"name": "../../../x.gif", "mimeType": "image/gif", "buffer": content})
    page.wait_for_function("document.querySelector('#picture').innerText.includes('first of several frames')")
    assert "40×30 pixels" in page.inner_text("#picture")
    assert not list(site.uploads.parent.glob("*.gif")) and not list(site.uploads.parent.parent.glob("x.gif"))


def test_a_picture_of_the_folder(page):
    choose(page, "picked", "gradient.png")
    page.wait_for_function("document.querySelector('#picture').innerText.includes('256×256')")


def test_two_runs_side_by_side(page):
    page.get_by_role("tab", name="Two runs").click()
    choose(page, "one", "cbam")
    choose(page, "other", "psanet")
    page.click("#both")
    page.wait_for_selector("#beside section:nth-child(2)")
    assert page.locator("#beside section").count() == 2
    assert page.locator("#beside h3").all_inner_texts() == ["cbam", "psanet"]


def test_a_report_is_opened_without_its_scripts(page):
    page.get_by_role("tab", name="Studies").click()
    assert page.locator("#report-name input").input_value() == "hats"
    page.click("#open")
    frame = page.frame_locator("#report iframe")
    frame.get_by_text("A study of hats").wait_for()
    assert page.title() == "foveate: see attention"
    choices = page.locator("#report-name input")
    choices.click()
    assert page.get_by_role("option").all_inner_texts() in (["hats"], ["✓\nhats"], ["✓hats"])  # and not the link's


def test_a_comparison_is_watched_and_stopped(page, site):
    page.get_by_role("tab", name="Studies").click()
    page.click("#stop")
    refused(page, "no comparison of yours", "#refusal-studies")
    page.click("#start")
    page.wait_for_function("document.querySelector('#progress').innerText.includes('running')")
    page.click("#start")
    refused(page, "still running", "#refusal-studies")
    page.wait_for_function("/0 of 4 runs/.test(document.querySelector('#progress').innerText)", timeout=120_000)
    [ours] = [one for one in site.handlers.sessions._all.values() if one.comparison]
    page.click("#stop")
    page.wait_for_function("document.querySelector('#progress').innerText.includes('stopped')")
    assert not ours.comparison.running


def test_a_comparison_to_its_end(page):
    page.get_by_role("tab", name="Studies").click()
    for control, keys in {"seeds": ["Home"], "samples": ["Home"]}.items():
        page.locator(f"#{control} input[type=range]").focus()
        for key in keys:
            page.keyboard.press(key)
    page.click("#start")
    page.wait_for_function("document.querySelector('#progress').innerText.includes('finished')", timeout=240_000)
    assert "--seeds 1 --epochs 1 --train-samples 64" in page.inner_text("#progress")
    page.wait_for_function("document.querySelector('#report-name input').value === 'your comparison'")
    page.click("#open")
    page.frame_locator("#report iframe").get_by_text("squeeze_excite").first.wait_for()


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    look(page, run="psanet")
    page.click("#places-box button")
    page.click("#numbers-box button")
    page.click("#judge")
    page.wait_for_selector("#trust table")
    for tab in ("Two runs", "Studies", "Look"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_by_keyboard_alone(page):
    page.locator("#run input").focus()
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "look":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer img")


def test_what_is_left_goes_when_the_page_is_closed(site, browser):
    context = browser.new_context()
    page = context.new_page()
    before = len(site.handlers.sessions)
    page.goto(site.url)
    page.wait_for_selector("#picture img")
    assert len(site.handlers.sessions) == before + 1
    context.close()
    for _ in range(100):
        if len(site.handlers.sessions) <= before:
            break
        time.sleep(0.2)
    assert len(site.handlers.sessions) <= before
    assert len(list((site.uploads.parent / "sessions").iterdir())) == len(site.handlers.sessions)
