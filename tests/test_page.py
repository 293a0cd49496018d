"""The explorer page in a real browser, over a real service: what a user does there works, offline and by keyboard."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

import vectorstore as vs
from tests.http_client import TOKEN
from vectorstore.http import create_app

expect.set_options(timeout=15_000)  # a busy machine is slow, not wrong
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    *("--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
]
NAMES = {"man": (1, 0, 0), "woman": (1, 1, 0), "king": (1, 0, 1), "queen": (1, 1, 1), "chess": (0, -1, 0.2)}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service over a store with a few concepts that make an analogy, and many others in three clouds."""
    random = np.random.default_rng(0)
    vectors = np.zeros((305, 64), np.float32)
    vectors[:5, :3] = list(NAMES.values())
    vectors[5:] = np.eye(64)[[10, 20, 30]][np.arange(300) % 3] * 2 + 0.1 * random.standard_normal((300, 64))
    records = [{"name": name, "domain": "people", "definition": f"what {name} means"} for name in NAMES]
    records += [{"name": f"thing {n}", "domain": f"cloud{n % 3}"} for n in range(300)]
    with vs.open(tmp_path_factory.mktemp("page") / "kb", embedder="hash:64") as store:
        store.concepts.add(records, vectors=vectors)
        store.concepts.add({"name": "king", "id": "chess:king", "context": "default", "definition": "a piece"})
        store.relations.add({"source": "default:queen", "target": "default:king", "type": "wife of"})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = uvicorn.Config(create_app(store, token=TOKEN), host="127.0.0.1", port=port, log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()
        assert store.check().findings == ()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except Exception as error:
            pytest.fail(
                f"the page is tested in Chromium: apt install chromium, or playwright install chromium ({error})"
            )
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page with the token; at the end no error was told by the browser, and no other host was asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    wrong: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(f"{address}/#token={TOKEN}")
    opened.wait_for_selector("body[data-ready]")
    yield opened
    context.close()
    # What the service refuses is told to the user, and by the browser as well.
    assert [text for text in wrong if "status of 4" not in text] == []
    assert {url.split("/")[2] for url in asked if not url.startswith(("data:", "blob:"))} == {address.split("/")[2]}


def view(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Views").get_by_role("link", name=name).click()


def hits(page: Page) -> list[str]:
    return page.locator(".hits .name").all_inner_texts()


def test_the_token_is_asked_for_and_kept_out_of_the_address(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    dialog = page.get_by_role("dialog", name="Token")
    expect(dialog).to_be_visible()
    page.get_by_role("textbox", name="Token").fill("not the token at all")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("not the service's token")
    page.get_by_role("textbox", name="Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    page.wait_for_selector("body[data-ready]")
    assert TOKEN not in page.url
    page.goto(f"{address}/#token={TOKEN}")
    expect(page).not_to_have_url(re.compile(TOKEN))
    context.close()


def test_search_filter_record_and_neighbours(page: Page) -> None:
    page.get_by_label("Search", exact=True).fill("king")
    page.get_by_label("Mode").select_option("vector")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector(".hits .score")
    assert hits(page)[0] == "king"
    expect(page.locator(".about").first).to_contain_text("hits")
    page.get_by_label("Filter").fill("domain=cloud1")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".hits .name").first).to_have_text(re.compile("^thing"))
    assert all(name.startswith("thing") for name in hits(page)) and len(hits(page)) == 10
    page.get_by_label("Filter").fill("domain=people")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".hits .name").first).to_have_text(re.compile(f"^({'|'.join(NAMES)})$"))
    page.get_by_role("link", name="queen").first.click()
    side = page.get_by_role("complementary", name="Record")
    expect(side).to_contain_text("what queen means")
    expect(side.locator(".edges")).to_contain_text("wife of →")
    side.locator(".edges a").click()
    expect(side.get_by_role("heading", level=2)).to_have_text("king")


def test_a_filter_that_is_wrong_is_said(page: Page) -> None:
    page.get_by_label("Search", exact=True).fill("king")
    page.get_by_label("Filter").fill("nothing=3")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#said")).to_contain_text("no field 'nothing'")


def test_everything_by_keyboard(page: Page) -> None:
    view(page, "Health")
    page.wait_for_selector("table")
    page.keyboard.press("/")
    page.wait_for_selector("#query:focus")
    page.keyboard.type("thing 7")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hits .score")
    page.locator("#query").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("[...document.querySelectorAll('.hits a')].indexOf(document.activeElement)") == 1
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Record").get_by_role("heading", level=2)).to_be_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"


def test_an_analogy_is_completed_and_an_ambiguous_word_asked_about(page: Page) -> None:
    view(page, "Analogies")
    for label, word in (("a", "man"), ("b", "king"), ("c", "woman")):
        page.get_by_label(label, exact=True).fill(word)
    page.get_by_role("button", name="Complete").click()
    senses = page.get_by_role("region", name="Which king")
    expect(senses.get_by_role("button")).to_have_count(2)
    senses.get_by_role("button", name="what king means").click()
    answers = page.get_by_role("list", name="Answers")
    expect(answers.get_by_role("link").first).to_have_text("queen")
    expect(answers.get_by_role("meter").first).to_be_visible()
    page.get_by_label("From domain").fill("cloud0")
    page.get_by_label("To domain").fill("cloud1")
    page.get_by_role("button", name="Discover").click()
    expect(page.locator(".pairs li").first).to_contain_text("→")


def test_a_map_is_made_selected_from_and_searched_in(page: Page) -> None:
    view(page, "Map")
    make = page.get_by_role("button", name="Make it")
    plane = page.locator("canvas")
    if make.is_visible() or page.locator("main[data-points]").count() == 0:
        make.click()
    page.wait_for_selector("main[data-points='306']")
    expect(plane).to_have_attribute("aria-label", "Map of 306 concepts")
    legend = page.get_by_role("list", name="Colours")
    expect(legend.get_by_role("listitem")).to_have_count(4)
    page.wait_for_timeout(300)
    assert page.evaluate("document.querySelector('main').scatter.drawn") and page.evaluate(SHADES) > 3
    legend.get_by_role("button", name="cloud1").click()
    expect(page.get_by_role("region", name="Selection")).to_contain_text("100 selected")
    page.get_by_role("radio", name="lasso").check()
    around = page.evaluate(AROUND, "cloud2")
    page.mouse.move(*around[0])
    page.mouse.down()
    for corner in around[1:]:
        page.mouse.move(*corner, steps=3)
    page.mouse.up()
    expect(page.get_by_role("region", name="Selection")).to_contain_text("100 selected")
    page.get_by_role("radio", name="pan").check()
    before = page.evaluate("document.querySelector('main').scatter.view.zoom")
    plane.focus()
    page.keyboard.press("+")
    assert page.evaluate("document.querySelector('main').scatter.view.zoom") > before
    page.get_by_role("button", name="Search in these").click()
    page.get_by_label("Search", exact=True).fill("thing 5")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_selector(".hits .score")
    assert {int(name.split()[1]) % 3 for name in hits(page)} == {2}


SHADES = """() => {
  const canvas = document.querySelector("canvas"), gl = canvas.getContext("webgl");
  const pixels = new Uint8Array(4 * canvas.width * canvas.height), seen = new Set();
  gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 190) seen.add(`${pixels[i]} ${pixels[i + 1]} ${pixels[i + 2]}`);
  return seen.size;
}"""

AROUND = """(cloud) => {
  const scatter = document.querySelector("main").scatter, box = document.querySelector("canvas").getBoundingClientRect();
  const swatches = [...document.querySelectorAll(".legend li")].map((one) => one.textContent);
  const seen = [];
  for (let i = 5; i < 305; i++) if ((i - 5) % 3 === Number(cloud.at(-1))) seen.push(scatter.seen(i));
  const xs = seen.map((one) => one[0]), ys = seen.map((one) => one[1]);
  const [l, r, t, b] = [Math.min(...xs) - 3, Math.max(...xs) + 3, Math.min(...ys) - 3, Math.max(...ys) + 3];
  return [[l, t], [r, t], [r, b], [l, b], [l, t]].map(([x, y]) => [x + box.left, y + box.top]);
}"""


def test_work_is_begun_and_followed(page: Page) -> None:
    view(page, "Work")
    page.get_by_role("button", name="Fit clusters of concepts").click()
    first = page.get_by_role("list", name="Workflows").get_by_role("listitem").first
    expect(first).to_contain_text("cluster concepts")
    expect(first.locator(".status")).to_have_text("completed")
    first.get_by_role("button", name="Roll back").click()
    expect(first.locator(".status")).to_have_text("rolled back")


def test_health_is_shown(page: Page) -> None:
    view(page, "Health")
    expect(page.get_by_role("heading", name="All is well")).to_be_visible()
    expect(page.get_by_role("row", name="concepts")).to_contain_text("306")
    expect(page.get_by_role("link", name="Health: ok")).to_be_visible()


def test_light_and_dark(page: Page) -> None:
    def paper() -> Any:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = paper()
    assert sum(map(int, dark[4:-1].split(","))) < 150 < sum(map(int, light[4:-1].split(",")))
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert paper() == dark
    page.get_by_role("button", name="Switch between light and dark").click()
    assert paper() == light


@pytest.mark.parametrize("name", ["Search", "Map", "Analogies", "Work", "Health"])
def test_every_control_has_a_name_and_nothing_is_wider_than_a_phone(page: Page, name: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    view(page, name)
    page.wait_for_timeout(400)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button, a, canvas")].filter((one) => one.checkVisibility()
             && !(one.getAttribute("aria-label") || one.labels?.length || one.textContent.trim() || one.title)).length"""
    )
    assert nameless == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_text_of_a_record_becomes_markup(page: Page, address: str) -> None:
    evil = "<img src=x onerror=window.broken=1><script>window.broken=1</script>"
    made = page.request.post(
        f"{address}/concepts",
        headers={"Authorization": f"Bearer {TOKEN}"},
        data={"records": [{"id": "evil", "name": evil, "definition": evil}]},
    )
    assert made.status == 201
    page.get_by_label("Search", exact=True).fill("img onerror script")
    page.get_by_label("Mode").select_option("text")
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector(".hits .score")
    page.locator(".hits a").first.click()
    expect(page.get_by_role("complementary", name="Record").get_by_role("heading", level=2)).to_have_text(evil)
    assert page.evaluate("window.broken") is None
    gone = page.request.delete(f"{address}/concepts/evil", headers={"Authorization": f"Bearer {TOKEN}"})
    assert gone.status == 200


def test_the_pages_files_come_with_a_strict_policy(address: str) -> None:
    import httpx

    answer = httpx.get(f"{address}/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for name in ("..%2fapp.py", "%2e%2e/app.py", "app.py", "nothing.js"):
        assert httpx.get(f"{address}/-/{name}").status_code in (401, 404)
