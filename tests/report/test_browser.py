"""The page in a real browser: it opens offline, draws, answers the pointer, and runs nobody's script."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from mtsearch.report.page import write_page
from mtsearch.search.record import StudyRecord
from tests.report.records import hostile, realistic, record, repeated, with_history

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if os.environ.get("MTSEARCH_TEST_ALL") != "1":
        pytest.importorskip("playwright", reason="needs the package playwright")
        if path is None:
            pytest.skip("needs chromium or google-chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        launched.close()


@contextmanager
def opened(browser: "Browser", study: StudyRecord, folder: Path, **options: Any) -> Iterator["Page"]:
    """The study's page, drawn; afterwards, that it complained of nothing and asked for nothing."""
    options = {"viewport": {"width": 1400, "height": 1000}} | options
    page = browser.new_page(**options)
    trouble: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: trouble.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    file = write_page(study, folder)
    page.goto(file.as_uri())
    page.wait_for_selector(".plot .main-svg .legend")
    yield page
    page.close()
    assert trouble == []
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}


def hover(page: "Page", trace: str, index: int, says: str = "") -> str:
    """Move the pointer onto a point and read the label; again while a busy machine does not show what it `says`."""
    for _ in range(20):
        label = _hover_once(page, trace, index)
        if label and says in label:
            break
        page.mouse.move(0, 0)
        page.wait_for_timeout(250)
    return label


def holds(page: "Page", condition: str) -> bool:
    """Whether a JavaScript condition becomes true.

    Playwright's own `wait_for_function` evaluates text inside the page when it has to ask again, which the page's
    content security policy forbids.
    """
    for _ in range(100):
        if page.evaluate(condition):
            return True
        page.wait_for_timeout(100)
    return False


def _hover_once(page: "Page", trace: str, index: int) -> str:
    place = page.evaluate(
        """([name, index]) => {
            const plot = document.querySelector(".plot"), layout = plot._fullLayout;
            plot.scrollIntoView({block: "center"});
            const trace = plot.data.find(each => each.name === name), box = plot.getBoundingClientRect();
            return [box.left + layout.xaxis._offset + layout.xaxis.d2p(trace.x[index]),
                    box.top + layout.yaxis._offset + layout.yaxis.d2p(trace.y[index])];
        }""",
        [trace, index],
    )
    page.mouse.move(place[0] - 3, place[1])
    page.mouse.move(*place, steps=3)
    page.wait_for_timeout(100)
    return page.text_content(".hoverlayer") or ""


def scroll_through(page: "Page") -> None:
    """Figures are drawn when they come into view."""
    for place in page.locator(".figure").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()


def test_every_figure_is_drawn_when_it_comes_into_view(browser: "Browser", tmp_path: Path) -> None:
    with opened(browser, with_history(realistic()), tmp_path) as page:
        figures = page.locator(".figure").count()
        assert figures == 13
        assert page.locator(".figure .plot.js-plotly-plot").count() < figures
        scroll_through(page)
        assert page.locator(".figure .plot.js-plotly-plot").count() == figures
        titles = page.evaluate(
            "[...document.querySelectorAll('.figure .plot')].map(each => each.layout.xaxis.title.text).join()"
        )
        assert "complete trials, in the order of their ends" in titles
        assert "wall clock (seconds)" in page.inner_text("#time")


def test_choosing_a_parameter_colours_the_front(browser: "Browser", tmp_path: Path) -> None:
    study = with_history(realistic())
    front = "document.querySelector('.plot').data.find(each => each.name === 'front')"
    with opened(browser, study, tmp_path) as page:
        before = page.locator(".scatterlayer .trace").nth(1).locator(".point").first.get_attribute("style")
        page.select_option("#colour", label="learning_rate")
        page.wait_for_selector(".plot .colorbar, .plot .infolayer .cbtitle")
        shown = page.evaluate(f"[{front}.customdata, {front}.marker.color]")
        learning_rates = {row.trial: row.params["learning_rate"] for row in study.rows}
        assert [10**value for value in shown[1]] == pytest.approx([learning_rates[t] for t in shown[0]], rel=1e-4)
        assert "learning_rate" in (page.text_content(".plot .infolayer >> nth=0") or "")
        assert before != page.locator(".scatterlayer .trace").nth(1).locator(".point").first.get_attribute("style")
        page.select_option("#colour", label="embedding_size")
        ticks = page.evaluate(f"{front}.marker.colorbar.ticktext")
        assert ticks == ["16", "32", "64", "128"]
        page.select_option("#colour", value="")
        assert page.evaluate(f"{front}.marker.color") == "#0072B2"
        assert page.locator(".plot .infolayer .cbtitle").count() == 0


def test_a_click_shows_curve_and_command_which_can_be_copied(browser: "Browser", tmp_path: Path) -> None:
    study = with_history(realistic())
    with opened(browser, study, tmp_path) as page:
        assert page.inner_text("#trial-name").startswith("trial 43, knee: ")  # where nothing was clicked yet
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        chosen = study.front[0]
        hover(page, "front", 0, says=f"trial {chosen.trial}")
        page.mouse.down()
        page.mouse.up()
        page.wait_for_selector(f"#trial[data-trial='{chosen.trial}']")
        assert page.inner_text("#trial-name").startswith(f"trial {chosen.trial}: RMSE {chosen.values[0]:.4g} and ")
        assert f"embedding_size {chosen.params['embedding_size']}" in page.inner_text("#trial-params")
        curve = page.evaluate("[...document.querySelectorAll('#trial-curves .plot')].map(each => each.data[0].y)")
        stored = [[e["metrics"][m.key] for e in study.curves[chosen.trial]] for m in study.objectives]
        assert curve == [pytest.approx(values, rel=1e-4) for values in stored]
        page.click("#copy")
        assert holds(page, "document.querySelector('#copy').textContent === 'Copied'")
        command = f"mtsearch export --study ml-100k --pick trial:{chosen.trial} -o best.toml"
        assert page.evaluate("navigator.clipboard.readText()") == command


def test_a_finger_chooses_a_trial_too(browser: "Browser", tmp_path: Path) -> None:
    study = with_history(realistic())
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    with opened(browser, study, tmp_path, **phone) as page:
        chosen = page.locator(f"#trial[data-trial='{study.front[1].trial}']")
        for _ in range(10):  # a busy machine may still be laying out what was tapped
            page.locator(".scatterlayer .trace").nth(1).locator(".point").nth(1).tap(force=True)
            page.wait_for_timeout(500)
            if chosen.is_visible():
                break
        assert chosen.is_visible()


def test_a_thousand_trials_open_and_answer(browser: "Browser", tmp_path: Path) -> None:
    study = with_history(realistic(trials=1000))
    with opened(browser, study, tmp_path) as page:
        assert study.knee is not None
        own = f"trial {study.knee.trial}"  # whose neighbours are further off than a pixel
        assert own in hover(page, "front", study.front.index(study.knee), says=own)
        scroll_through(page)


def test_without_plotly_the_page_says_so(browser: "Browser", tmp_path: Path) -> None:
    page = browser.new_page()
    page.route("https://**", lambda route: route.abort())
    page.goto(write_page(realistic(), tmp_path, plotlyjs="cdn").as_uri())
    assert "plotly.js could not be loaded" in page.inner_text(".trouble-note")
    assert "trial 43" in page.inner_text("#table")
    page.close()


def test_the_plot_is_drawn_without_a_complaint(browser: "Browser", tmp_path: Path) -> None:
    study = realistic()
    with opened(browser, study, tmp_path) as page:
        assert page.title() == "ml-100k · mtsearch"
        assert page.locator(".plot .scatterlayer .trace").count() == 6
        assert page.locator(".scatterlayer .trace").nth(1).locator(".point").count() == len(study.front)
        assert "1 trial outside the view" in page.inner_text(".plot")
        assert "Share" not in page.evaluate(
            "[...document.querySelectorAll('.modebar-btn')].map(each => each.dataset.title).join()"
        )


def test_hovering_names_the_trial_and_its_parameters(browser: "Browser", tmp_path: Path) -> None:
    study = realistic()
    with opened(browser, study, tmp_path) as page:
        for index in (0, study.front.index(study.knee or study.front[0])):
            label = hover(page, "front", index, says=f"trial {study.front[index].trial}")
            assert f"trial {study.front[index].trial}" in label
            assert f"learning_rate: {study.front[index].params['learning_rate']:.4g}" in label
        assert "biases, baseline" in hover(page, "biases", 0, says="biases, baseline")


def test_bars_over_seeds_are_drawn_inside_the_plot(browser: "Browser", tmp_path: Path) -> None:
    study = repeated()
    with opened(browser, study, tmp_path) as page:
        front = page.locator(".scatterlayer .trace").nth(1)
        assert front.locator(".errorbar .xerror").count() == front.locator(".errorbar .yerror").count()
        assert front.locator(".errorbar .xerror").count() == len(study.front)
        assert "bars: standard deviation over 3 seeds" in page.inner_text(".plot")
        frame = page.locator(".plot .nsewdrag").bounding_box()
        assert frame is not None
        for bar in front.locator(".errorbar path").all():
            box = bar.bounding_box()
            assert box is not None
            assert frame["x"] <= box["x"]
            assert box["x"] + box["width"] <= frame["x"] + frame["width"]
            assert frame["y"] <= box["y"]
            assert box["y"] + box["height"] <= frame["y"] + frame["height"]
        assert "± " in hover(page, "front", 0, says="± ")


def test_double_click_shows_all(browser: "Browser", tmp_path: Path) -> None:
    with opened(browser, realistic(), tmp_path) as page:
        page.locator(".plot .nsewdrag").dblclick()
        assert holds(page, "document.querySelector('.plot').layout.xaxis.range[1] > 500")


def test_hostile_text_is_inert(browser: "Browser", tmp_path: Path) -> None:
    with opened(browser, hostile(), tmp_path) as page:
        label = hover(page, "front", 0)
        assert "<img src=x onerror=alert(1)> & </script…" in label
        assert "<img src=x onerror=alert(1)>" in page.inner_text("h1")
        assert "<img src=x" in (page.text_content(".plot .annotation >> nth=0") or "")
        assert page.locator("img").count() == 0
        assert page.locator("image").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "study",
    [with_history(realistic()), with_history(hostile()), record(), repeated()],
    ids=["realistic", "hostile", "empty", "repeated"],
)
def test_a_phone_needs_no_sideways_scrolling(
    browser: "Browser", tmp_path: Path, study: StudyRecord, scheme: str
) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    with opened(browser, study, tmp_path, color_scheme=scheme, **phone) as page:
        scroll_through(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator(".plot .main-svg").first.bounding_box()["width"] <= 390  # type: ignore[index]


def test_the_scheme_decides_ink_and_paper(browser: "Browser", tmp_path: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        with opened(browser, realistic(), tmp_path, color_scheme=scheme) as page:
            seen[scheme] = page.evaluate(
                """[getComputedStyle(document.body).backgroundColor,
                    getComputedStyle(document.querySelector(".plot .xtick text")).fill]"""
            )
    assert seen == {
        "light": ["rgb(255, 255, 255)", "rgb(27, 31, 36)"],
        "dark": ["rgb(17, 20, 24)", "rgb(232, 235, 238)"],
    }
