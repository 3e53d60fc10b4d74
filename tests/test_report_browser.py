"""Reports in a browser that is driven from outside: the mouse, the keyboard, and two widths."""

import json
import re
import shutil

import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.models import vae
from aejax.nets import MLP
from aejax.objective import bernoulli
from aejax.reports import report

webdriver = pytest.importorskip("selenium.webdriver")
CHROME, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(CHROME is None or DRIVER is None, reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROME
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(switch)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A run's page and a comparison of four runs of two settings."""
    folder = tmp_path_factory.mktemp("pages")
    small = ["--steps", "40", "--hidden", "16", "--log-every", "10", "--no-verbose", "--evaluate", "quick"]
    command = ["train", "dae", *small, "--sweep", "latent=3,6", "--seeds", "2", "--run", str(folder / "runs")]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(command) == 0
        one = folder / "runs" / "latent3" / "seed0"
        assert main(["report", str(one)]) == 0
    return one / "report.html", folder / "runs" / "report.html"


def shown(browser, page, width):
    browser.set_window_size(width, 900)
    # Headless Chromium has a smallest window; what is inside is set exactly.
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get(page.as_uri())


@pytest.mark.parametrize("width", [1280, 390])
def test_no_column_is_out_of_sight_and_nothing_is_logged(browser, pages, width):
    for page in pages:
        shown(browser, page, width)
        hidden = browser.execute_script(
            "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)"
            ".map(e => e.textContent.slice(0, 60))"
        )
        assert hidden == []
        outside = browser.execute_script(
            "return [...document.querySelectorAll('td, th')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert outside == 0
        assert browser.get_log("browser") == []


def column(browser, heading):
    """The cells of a column of the first table, by the words of its heading."""
    return browser.execute_script(
        """const table = document.querySelector("table.runs")
        const at = [...table.tHead.rows[0].cells].findIndex(c => c.textContent.startsWith(arguments[0]))
        return [...table.tBodies[0].rows].map(r => r.cells[at].textContent)""",
        heading,
    )


def test_a_comparison_sorts_by_mouse_and_by_keyboard_with_metrics_first(browser, pages):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    shown(browser, pages[1], 1280)
    headings = [e.text.split("\n")[0] for e in browser.find_elements("css selector", "table.runs thead th")]
    assert headings[0] == "run"
    assert headings.index("latent") > max(headings.index(name) for name in headings if "MSE" in name)
    button = next(
        b for b in browser.find_elements("css selector", "thead button") if b.text.startswith("reconstruction")
    )
    button.click()
    ascending = [float(v) for v in column(browser, "reconstruction")]
    assert ascending == sorted(ascending)
    button.send_keys(keys.ENTER)
    assert [float(v) for v in column(browser, "reconstruction")] == ascending[::-1]
    heading = button.find_element("xpath", "..")
    assert heading.get_attribute("aria-sort") == "descending"
    # The names tell the runs of both settings apart.
    assert sorted(column(browser, "run")) == [f"latent{k}/seed{seed}" for k in (3, 6) for seed in (0, 1)]


def test_the_map_of_codes_shows_images_by_mouse_and_by_keyboard(browser, pages):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    chains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
    shown(browser, pages[0], 1280)
    plane = browser.find_element("css selector", ".plane")
    said = browser.find_element("css selector", ".said")
    first = browser.find_element("css selector", ".tile-image.first").get_attribute("style")
    plane.send_keys(keys.ARROW_RIGHT, keys.ARROW_DOWN)
    assert said.text.startswith("12 examples: ")
    moved = browser.find_element("css selector", ".tile-image.first").get_attribute("style")
    assert moved != first
    plane.send_keys(keys.ARROW_LEFT)
    assert browser.find_element("css selector", ".tile-image.first").get_attribute("style") != moved

    # The dot lies on a point of the picture, and a drag over everything chooses 40 of all.
    points = json.loads(browser.execute_script("return document.querySelector('.explore script').textContent"))[
        "points"
    ]
    assert len(points) == 359
    assert np.asarray(points).min() >= 0
    assert np.asarray(points).max() <= 1
    size = plane.size
    drag = chains(browser).move_to_element_with_offset(plane, -size["width"] // 2 + 2, -size["height"] // 2 + 2)
    drag.click_and_hold().move_by_offset(size["width"] - 4, size["height"] - 4).release().perform()
    assert said.text.startswith("40 examples: ")
    assert len(browser.find_elements("css selector", ".tile-image")) == 40


def test_sliders_move_one_dimension_by_keyboard(browser, pages):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    shown(browser, pages[0], 1280)
    sliders = browser.find_elements("css selector", ".sliders input")
    assert len(sliders) == 3
    values = lambda: [output.text for output in browser.find_elements("css selector", ".sliders output")]
    frame = lambda: browser.find_element("css selector", ".decoded").get_attribute("style")
    start, picture = values(), frame()
    way = keys.ARROW_LEFT if sliders[1].get_attribute("value") == "10" else keys.ARROW_RIGHT
    sliders[1].send_keys(way)
    assert [a == b for a, b in zip(values(), start)] == [True, False, True]
    assert frame() != picture
    sliders[2].send_keys(keys.HOME)  # the one before goes back to the example
    assert values()[:2] == start[:2]


def test_a_comparison_does_not_replace_another_one_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = aejax.load("digits")
    model = vae(MLP((), 4), MLP((), splits[0].shape), bernoulli(), 2, splits[0].shape)
    settings = aejax.Settings(verbose=False)
    runs = [aejax.train(aejax.fit(model, splits, steps=2, seed=seed), f"runs/{seed}", settings) for seed in range(3)]
    assert report(runs[:2]).name == "comparison.html"
    assert report(runs[1:]).name == "comparison-2.html"
    assert report(runs[:2]).name == "comparison.html"  # of the same runs: brought up to date
    assert report(runs).name == "comparison-3.html"


def test_how_large_the_moving_parts_are(pages):
    """A page with map and sliders stays below half a megabyte on digits; its scripts and data are a part of that."""
    text = pages[0].read_text()
    assert len(text) < 500_000
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.S)
    assert len(scripts) == 3
    assert 20_000 < sum(map(len, scripts)) < 250_000
