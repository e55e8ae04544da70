"""Tests of the page in a real browser: it opens offline, draws, answers the pointer, runs no foreign script."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlsplit

import numpy as np
import pytest

from mtsearch.report.page import write_page
from mtsearch.search.pareto import FrontRow
from mtsearch.search.results import StudyResults
from tests.helpers.results import BASELINES, OBJECTIVES, hostile, realistic, repeated, results, with_history

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page


Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Screen:
    """A page in the browser, and the folder of the studies that it shows one after the other.

    Chromium compiles plotly.js, for seconds, unless the same place showed it before.
    """

    page: "Page"
    folder: Path


@pytest.fixture(scope="module")
def desk(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    yield Screen(page, tmp_path_factory.mktemp("desk"))
    page.close()


@pytest.fixture(scope="module")
def phone(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    page = browser.new_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    yield Screen(page, tmp_path_factory.mktemp("phone"))
    page.close()


@contextmanager
def opened(screen: Screen, study: StudyResults, scheme: Scheme = "light") -> Iterator["Page"]:
    """Open the study's page, and check at the end that it raised no error and made no request."""
    page = screen.page
    trouble: list[str] = []
    asked: list[str] = []

    def refuse(dialog: "Dialog") -> None:
        trouble.append(dialog.message)
        dialog.dismiss()

    listeners: dict[Any, Callable[[Any], None]] = {
        "console": lambda message: trouble.append(f"{message.type}: {message.text}"),
        "pageerror": lambda error: trouble.append(str(error)),
        "dialog": refuse,
        "request": lambda request: asked.append(request.url),
    }
    page.emulate_media(color_scheme=scheme)
    page.mouse.move(0, 0)
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        page.goto(write_page(study, screen.folder).as_uri())
        page.wait_for_selector(".plot .main-svg .legend")
        yield page
    finally:
        page.goto("about:blank")  # the study's scripts end
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
    assert trouble == []
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}


def hover(page: "Page", trace: str, index: int, says: str = "", panel: int = 0) -> str:
    """Move the pointer onto a point and read the label; again while a busy machine does not show what it `says`."""
    for _ in range(20):
        label = _hover_once(page, trace, index, panel)
        if label and says in label:
            break
        page.mouse.move(0, 0)
        page.wait_for_timeout(250)
    return label


def click(page: "Page", trace: str, index: int, trial: int, panel: int = 0) -> str:
    """Click on a trial's point until the page shows the trial, and return the label under the pointer."""
    shown = page.locator(f"#trial[data-trial='{trial}']")
    for _ in range(10):  # a busy machine may still be drawing what was clicked
        label = hover(page, trace, index, says=f"trial {trial}", panel=panel)
        page.mouse.down()
        page.mouse.up()
        page.wait_for_timeout(250)
        if shown.is_visible():
            break
    assert shown.is_visible()
    return label


def holds(page: "Page", condition: str) -> bool:
    """Tell whether a JavaScript condition becomes true.

    Playwright's own `wait_for_function` evaluates text inside the page when it has to ask again, which the page's
    content security policy forbids.
    """
    for _ in range(100):
        if page.evaluate(condition):
            return True
        page.wait_for_timeout(100)
    return False


def _hover_once(page: "Page", trace: str, index: int, panel: int) -> str:
    place = page.evaluate(
        """([name, index, panel]) => {
            const plot = document.querySelector(".plot");
            plot.scrollIntoView({block: "center"});
            const trace = plot._fullData.filter(each => each.name === name && each.hoverinfo !== "skip")[panel];
            const box = plot.getBoundingClientRect();
            const [x, y] = [trace.xaxis, trace.yaxis].map(id => plot._fullLayout[id[0] + "axis" + id.slice(1)]);
            return [box.left + x._offset + x.d2p(trace.x[index]), box.top + y._offset + y.d2p(trace.y[index])];
        }""",
        [trace, index, panel],
    )
    page.mouse.move(place[0] - 3, place[1])
    page.mouse.move(*place, steps=3)
    page.wait_for_timeout(100)
    return page.text_content(".hoverlayer") or ""


def scroll_through(page: "Page") -> None:
    """Scroll through the page, since figures are drawn when they come into view."""
    for place in page.locator(".figure").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()


@pytest.mark.slow
def test_every_figure_is_drawn_when_it_comes_into_view(desk: Screen) -> None:
    with opened(desk, with_history(realistic())) as page:
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


@pytest.mark.slow
def test_choosing_a_parameter_colours_the_front(desk: Screen) -> None:
    study = with_history(realistic())
    front = "document.querySelector('.plot').data.find(each => each.name === 'front')"
    with opened(desk, study) as page:
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


def test_a_click_shows_curve_and_command_which_can_be_copied(desk: Screen) -> None:
    study = with_history(realistic())
    with opened(desk, study) as page:
        assert page.inner_text("#trial-name").startswith("trial 43, knee: ")  # where nothing was clicked yet
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        chosen = study.front[0]
        click(page, "front", 0, chosen.trial)
        assert page.inner_text("#trial-name").startswith(f"trial {chosen.trial}: RMSE {chosen.values[0]:.4g} and ")
        assert f"embedding_size {chosen.params['embedding_size']}" in page.inner_text("#trial-params")
        curve = page.evaluate("[...document.querySelectorAll('#trial-curves .plot')].map(each => each.data[0].y)")
        stored = [[e["metrics"][m.key] for e in study.curves[chosen.trial]] for m in study.objectives]
        assert curve == [pytest.approx(values, rel=1e-4) for values in stored]
        page.click("#copy")
        assert holds(page, "document.querySelector('#copy').textContent === 'Copied'")
        command = f"mtsearch export --study ml-100k --pick trial:{chosen.trial} -o best.toml"
        assert page.evaluate("navigator.clipboard.readText()") == command


@pytest.mark.slow
def test_a_finger_chooses_a_trial_too(phone: Screen) -> None:
    study = with_history(realistic())
    with opened(phone, study) as page:
        chosen = page.locator(f"#trial[data-trial='{study.front[1].trial}']")
        point = page.locator(".scatterlayer .trace").nth(1).locator(".point").nth(1)
        for _ in range(20):  # a busy machine may still be laying out what was tapped
            point.evaluate("each => each.scrollIntoView({block: 'center'})")
            box = point.bounding_box()
            assert box is not None
            page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.wait_for_timeout(500)  # two taps within 0.3 s are a double one
            if chosen.is_visible():
                break
        assert chosen.is_visible()


@pytest.mark.slow
def test_a_thousand_trials_open_and_answer(desk: Screen) -> None:
    study = with_history(realistic(trials=1000))
    with opened(desk, study) as page:
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


@pytest.mark.slow
def test_the_plot_is_drawn_without_a_complaint(desk: Screen) -> None:
    study = realistic()
    with opened(desk, study) as page:
        assert page.title() == "ml-100k · mtsearch"
        assert page.locator(".plot .scatterlayer .trace").count() == 6
        assert page.locator(".scatterlayer .trace").nth(1).locator(".point").count() == len(study.front)
        assert "1 trial outside the view" in page.inner_text(".plot")
        assert "Share" not in page.evaluate(
            "[...document.querySelectorAll('.modebar-btn')].map(each => each.dataset.title).join()"
        )


@pytest.mark.slow
def test_hovering_names_the_trial_and_its_parameters(desk: Screen) -> None:
    study = realistic()
    with opened(desk, study) as page:
        for index in (0, study.front.index(study.knee or study.front[0])):
            label = hover(page, "front", index, says=f"trial {study.front[index].trial}")
            assert f"trial {study.front[index].trial}" in label
            assert f"learning_rate: {study.front[index].params['learning_rate']:.4g}" in label
        assert "biases, baseline" in hover(page, "biases", 0, says="biases, baseline")


@pytest.mark.slow
def test_bars_over_seeds_are_drawn_inside_the_plot(desk: Screen) -> None:
    study = repeated()
    with opened(desk, study) as page:
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


def test_hostile_text_is_inert(desk: Screen) -> None:
    with opened(desk, hostile()) as page:
        label = hover(page, "front", 0)
        assert "<img src=x onerror=alert(1)> & </script…" in label
        assert "<img src=x onerror=alert(1)>" in page.inner_text("h1")
        assert "<img src=x" in (page.text_content(".plot .annotation >> nth=0") or "")
        assert page.locator("img").count() == 0
        assert page.locator("image").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "scheme"),
    [
        (with_history(realistic()), "light"),
        (with_history(hostile()), "dark"),
        (results(), "light"),
        (repeated(), "dark"),
        (with_history(repeated(objectives=OBJECTIVES[1])), "light"),
        (with_history(realistic()), "dark"),
        (with_history(hostile()), "light"),
        (results(), "dark"),
        (repeated(), "light"),
        (with_history(repeated(objectives=OBJECTIVES[3])), "light"),
        (with_history(repeated(objectives=OBJECTIVES[4])), "dark"),
    ],
)
def test_a_phone_needs_no_sideways_scrolling(phone: Screen, study: StudyResults, scheme: Scheme) -> None:
    with opened(phone, study, scheme) as page:
        scroll_through(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        front = page.locator(".plot .main-svg").first
        if len(study.objectives) <= 2:
            assert front.evaluate("each => each.getBoundingClientRect().width") <= 390
        else:
            assert front.evaluate("each => each.closest('.wide').getBoundingClientRect().width") <= 390  # it scrolls


@pytest.mark.slow
def test_the_scheme_decides_ink_and_paper(desk: Screen) -> None:
    seen = {}
    for scheme in get_args(Scheme):
        with opened(desk, realistic(), scheme) as page:
            seen[scheme] = page.evaluate(
                """[getComputedStyle(document.body).backgroundColor,
                    getComputedStyle(document.querySelector(".plot .xtick text")).fill]"""
            )
    assert seen == {
        "light": ["rgb(255, 255, 255)", "rgb(27, 31, 36)"],
        "dark": ["rgb(17, 20, 24)", "rgb(232, 235, 238)"],
    }


def farthest_apart(study: StudyResults) -> FrontRow:
    """The member of the front whose nearest neighbour in any pair of objectives is farthest away."""
    points = np.array([each.values for each in study.rows[:-1]] + [study.baseline_values(name) for name in BASELINES])
    scaled = (points - points.min(axis=0)) / np.ptp(points, axis=0)

    def room(row: FrontRow) -> float:
        apart = np.delete(scaled, row.trial, axis=0) - scaled[row.trial]
        return float(min(np.hypot(apart[:, i], apart[:, j]).min() for i, j in combinations(range(len(row.values)), 2)))

    return max(study.front, key=room)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "trace"),
    [(1, "best so far"), *(pytest.param(number, "front", marks=pytest.mark.slow) for number in (3, 4))],
)
def test_a_click_in_any_panel_shows_the_trial(desk: Screen, number: int, trace: str) -> None:
    study = with_history(realistic(objectives=OBJECTIVES[number]))
    assert study.knee is not None
    chosen = farthest_apart(study) if number > 1 else study.rows[0]  # the first trial is an improvement
    index = study.front.index(chosen) if number > 1 else 0
    special = "knee" if number > 1 else "best"
    with opened(desk, study) as page:
        assert page.inner_text("#trial-name").startswith(f"trial {study.knee.trial}, {special}: ")
        for panel in range(max(1, number * (number - 1) // 2)):
            page.evaluate("document.querySelector('#trial').dataset.trial = ''")
            label = click(page, trace, index, chosen.trial, panel)
            for metric, value in zip(study.objectives, chosen.values, strict=True):
                assert f"{metric.label}: {value:.4g}" in label
        named = [f"{metric.label} {value:.4g}" for metric, value in zip(study.objectives, chosen.values, strict=True)]
        said = ", ".join(named[:-1]) + " and " + named[-1] if number > 1 else named[0]
        mark = f", {special}" if chosen == study.knee else ""
        assert page.inner_text("#trial-name") == f"trial {chosen.trial}{mark}: {said}"
        curves = page.evaluate("[...document.querySelectorAll('#trial-curves .plot')].map(each => each.data[0].y)")
        stored = [[e["metrics"][key] for e in study.curves[chosen.trial]] for key in OBJECTIVES[number]]
        assert curves == [pytest.approx(values, rel=1e-4) for values in stored]
        assert (
            page.inner_text("#trial-command")
            == f"mtsearch export --study ml-100k --pick trial:{chosen.trial} -o best.toml"
        )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "front"), [(1, "best so far"), (3, "front")])
def test_a_parameter_colours_every_panel_and_has_one_scale(desk: Screen, number: int, front: str) -> None:
    study = with_history(realistic(objectives=OBJECTIVES[number]))
    rates = {each.trial: each.params["learning_rate"] for each in study.rows}
    with opened(desk, study) as page:
        before = page.evaluate("document.querySelector('.plot').data.map(each => each.marker)")
        page.select_option("#colour", label="learning_rate")
        page.wait_for_selector(".plot .infolayer .colorbar")
        traces = page.evaluate(
            "document.querySelector('.plot').data.filter(each => each.customdata && each.hoverinfo !== 'skip')"
            ".map(each => [each.name, each.customdata, each.marker.color, each.marker.showscale])"
        )
        assert [each[0] for each in traces] == ["trials", front] * max(1, number * (number - 1) // 2)
        for _, trials, colours, _ in traces:
            assert [10**value for value in colours] == pytest.approx([rates[trial] for trial in trials], rel=1e-4)
        assert [each[3] for each in traces].count(True) == 1
        assert page.locator(".plot .infolayer .colorbar").count() == 1
        page.select_option("#colour", value="")
        assert page.evaluate("document.querySelector('.plot').data.map(each => each.marker)") == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3, 4])
def test_every_figure_of_any_number_is_drawn(desk: Screen, number: int) -> None:
    """Front; hypervolume where it is another figure; curves; parallel, importance, time; each parameter over each."""
    with opened(desk, with_history(realistic(objectives=OBJECTIVES[number]))) as page:
        scroll_through(page)
        drawn = page.locator(".figure .plot.js-plotly-plot").count()
        assert drawn == page.locator(".figure").count() == 1 + (number > 1) + number + 3 + 3 * number


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3])
def test_double_click_shows_all(desk: Screen, number: int) -> None:
    axis = "yaxis" if number == 1 else "xaxis"  # the RMSE of 500
    with opened(desk, realistic(objectives=OBJECTIVES[number])) as page:
        page.locator(".plot .nsewdrag").first.dblclick()
        assert holds(page, f"document.querySelector('.plot').layout.{axis}.range[1] > 500")


@pytest.mark.slow
def test_ink_follows_the_scheme_on_every_axis_of_a_matrix(desk: Screen) -> None:
    with opened(desk, realistic(objectives=OBJECTIVES[4]), "dark") as page:
        inks = page.evaluate(
            """["xtick", "x2tick", "x3tick", "ytick", "y2tick", "y3tick", "xtitle", "x3title", "y3title"].map(name =>
                getComputedStyle(document.querySelector(`.plot .${name} text, .plot text.${name}`)).fill)"""
        )
    assert inks == ["rgb(232, 235, 238)"] * 9
