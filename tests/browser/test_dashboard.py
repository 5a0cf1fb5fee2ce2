"""The dashboard in headless Chromium, by real traffic through a real gateway."""

import http.client
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.conftest import serving
from tests.system.gateways import Process, Start, proxy
from tests.system.upstream import Upstream

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright's package is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")

PATIENCE = 10_000
"""Milliseconds."""
VIEWS = ["overview", "routes", "map", "consumers", "problems", "checks", "configuration"]
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"

Page = Any
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"])
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """For tests that do not mind what was counted before."""
    with tempfile.TemporaryDirectory() as runtime, serving() as upstream:
        text = settings(upstream.port, workers=1, store={"url": "memory"})
        process = Process(tmp_path_factory.mktemp("gateway"), text, environ={"RUNTIME_DIRECTORY": runtime})
        try:
            yield process
        finally:
            process.end()


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    """Opens the dashboard of a gateway; whatever the browser complains about, CSP included, fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []
    expected: list[str] = []

    def visit(gateway: Process, view: str = "overview", but: str = "", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        expected.extend([but] if but else [])
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{gateway.admin}/dashboard#{view}")
        return page

    try:
        yield visit
    finally:
        for context in contexts:
            context.close()
    assert [each for each in complaints if not any(text in each for text in expected)] == []


def settings(port: int, **parts: Any) -> str:
    """Two workers; routes with a name of their own, one with a limit, one for callers with a key."""
    breaker = {"consecutive_failures": 3, "open_for": "60s"}
    common: dict[str, Any] = {
        "workers": 2,
        "auth": {"providers": {"partners": {"type": "api_key", "header": "X-API-Key"}}},
        "upstreams": {
            "up": {"targets": [f"http://127.0.0.1:{port}"], "retry": "off", "breaker": breaker},
            "other": {"targets": [f"http://127.0.0.1:{port}"], "retry": "off", "breaker": "off"},
        },
        "routes": [
            {"name": "orders", "match": {"path": "/orders/**"}, "upstream": "up"},
            {"name": "status", "match": {"path": "/status/**"}, "upstream": "other"},
            {
                "name": "limited",
                "match": {"path": "/limited"},
                "rate_limit": [{"by": "global", "limit": "3/hour"}],
                "upstream": "up",
            },
            {"name": "private", "match": {"path": "/private"}, "auth": {"providers": ["partners"]}, "upstream": "up"},
        ],
        "store": {"url": "embedded"},
    }
    return proxy(port, **{**common, **parts})


def ready(page: Page) -> Page:
    page.get_by_role("status").filter(has_text="Ready").wait_for()
    return page


def go(page: Page, view: str) -> Page:
    page.evaluate("view => { location.hash = view }", view)
    page.locator(f"#view-{view}").wait_for()
    return page


def table(page: Page, caption: str) -> dict[str, dict[str, str]]:
    """The cells of a table by the head of its row, and that of its column."""
    found: dict[str, dict[str, str]] = page.evaluate(
        """caption => {
            const table = [...document.querySelectorAll("table")].find(each => each.caption.textContent === caption)
            const heads = [...table.tHead.rows[0].cells].map(cell => cell.textContent)
            return Object.fromEntries([...table.tBodies[0].rows].map(row => [row.cells[0].textContent,
                Object.fromEntries([...row.cells].map((cell, index) => [heads[index], cell.textContent]))]))
        }""",
        caption,
    )
    return found


def until_total(page: Page, requests: int) -> None:
    page.wait_for_function(
        "wanted => document.querySelector('[data-total=requests]')?.textContent === wanted", arg=f"{requests:,}"
    )


def test_the_counts_on_the_page_are_those_that_were_sent(start: Start, upstream: Upstream, visit: Open) -> None:
    gateway = start(settings(upstream.port))
    page = ready(visit(gateway))
    sent = {"/orders/7": 1037, "/status/503/a": 4, "/limited": 5, "/private": 2, "/nowhere": 6}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    try:
        for path, times in sent.items():
            for _ in range(times):
                connection.request("GET", path)
                connection.getresponse().read()
    finally:
        connection.close()

    until_total(page, sum(sent.values()))
    assert page.locator("[data-total=errors]").text_content() == "4"
    assert page.locator("[data-total=refused]").text_content() == "4"
    rows = table(go(page, "routes"), "Routes")
    assert {name: (row["Requests ↓"], row["5xx"], row["Refused"]) for name, row in by_column(rows).items()} == {
        "orders": ("1,037", "0", "0"),
        "status": ("4", "4", "0"),
        "limited": ("5", "0", "2"),
        "private": ("2", "0", "2"),
        "none": ("6", "0", "0"),
    }
    assert table(go(page, "consumers"), "Consumers by use")["anonymous"]["Requests"] == f"{sum(sent.values()):,}"
    go(page, "problems").get_by_label("Find by path").fill("rate_limited")
    page.locator("#view-problems summary", has_text="rate_limited").first.click()
    assert page.locator(".explanation").first.text_content()


def by_column(rows: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The column that is sorted by says so by CSS alone."""
    return {name: {"Requests ↓": row["Requests"], **row} for name, row in rows.items()}


def test_an_upstream_that_dies_is_an_open_circuit_on_the_map(start: Start, visit: Open) -> None:
    with serving() as upstream:
        gateway = start(settings(upstream.port, workers=1, store={"url": "memory"}))
        page = ready(visit(gateway, "map"))
        node = page.locator(f".node[data-key='t up http://127.0.0.1:{upstream.port}']")
        assert gateway.ask("/orders/1")[0] == 200
        node.get_by_text("well").wait_for()
    for _ in range(4):
        gateway.ask("/orders/1")

    node.get_by_text("circuit open").wait_for()
    assert node.get_attribute("data-kind") == "bad"
    assert page.locator(".node[data-key='u up']", has_text="down").is_visible()
    assert page.locator(".lines path[data-from='u up']").get_attribute("data-kind") == "out"
    page.locator(".node[data-key='r orders']").focus()
    assert page.locator(".node[data-key='u up']:not(.dim)").count() == 1
    assert page.locator(".node[data-key='u other'].dim").count() == 1
    assert go(page, "overview").locator(".troubles", has_text="circuit open").is_visible()


def test_the_page_asks_for_the_token_and_keeps_it_for_the_tab(start: Start, upstream: Upstream, visit: Open) -> None:
    gateway = start(
        settings(upstream.port, workers=1, store={"url": "memory"}), listen={"admin_token": "the operators'"}
    )
    page = visit(gateway, but="401")
    page.locator("#token").fill("a wrong one")
    page.keyboard.press("Enter")
    page.get_by_text("That was not the right one").wait_for()

    page.locator("#token").fill("the operators'")
    page.keyboard.press("Enter")

    ready(page)
    assert not page.locator("dialog").is_visible()
    page.reload()
    ready(page)
    go(page, "configuration").get_by_text("4 routes").wait_for()
    assert "operators" not in page.content()


COUNT_TIMERS = """() => {
  const [begin, end] = [setInterval, clearInterval]
  window.ticking = new Set()
  window.setInterval = (...all) => { const id = begin(...all); ticking.add(id); return id }
  window.clearInterval = id => { ticking.delete(id); end(id) }
}"""


def test_a_feed_that_breaks_off_is_told_and_comes_back(start: Start, upstream: Upstream, visit: Open) -> None:
    gateway = start(settings(upstream.port, workers=1, store={"url": "memory"}))
    page = ready(visit(gateway, but="ERR_"))
    for _ in range(3):
        gateway.ask("/orders/1")
    until_total(page, 3)

    page.evaluate(COUNT_TIMERS)
    page.route("**/api/v1/live", lambda route: route.abort())
    os.kill(gateway.operator(), signal.SIGKILL)
    for _ in range(3):
        page.wait_for_event("requestfailed")
    page.get_by_text("Trying again").wait_for()
    assert page.locator("body.stale").count() == 1
    assert page.get_by_role("alert").text_content() == "The gateway does not answer."  # no seconds to be read out
    assert page.evaluate("ticking.size") == 1
    page.unroute("**/api/v1/live")

    page.locator("body:not(.stale)").wait_for()
    until_total(page, 3)


def test_what_needs_attention_is_the_worst_first_and_says_who_is_concerned(start: Start, visit: Open) -> None:
    with serving() as upstream:
        gateway = start(settings(upstream.port, workers=1, store={"url": "memory"}))
        page = ready(visit(gateway))
        gateway.ask("/status/503/a")
        for _ in range(50):
            gateway.ask("/status/200/a")
    for _ in range(4):
        gateway.ask("/orders/1")

    page.locator(".troubles .badge.bad", has_text="circuit open").wait_for()

    kinds = page.evaluate("[...document.querySelectorAll('.troubles .badge')].map(each => each.classList[1])")
    assert kinds == sorted(kinds)  # bad, warn
    assert page.locator(".troubles", has_text="of up (asked by orders, limited, private)").count() == 1


def test_what_somebody_reads_stays_where_it_is(start: Start, upstream: Upstream, visit: Open) -> None:
    gateway = start(settings(upstream.port, workers=1, store={"url": "memory"}))
    page = ready(visit(gateway, "problems"))
    for _ in range(5):
        gateway.ask("/private")
    gateway.ask("/status/503/first")
    failures = page.get_by_label("Recent failures")
    failures.locator("summary", has_text="/status/503/first").click()

    for _ in range(20):
        gateway.ask("/status/503/more")
    failures.get_by_text("Newer ones are shown when none is open").wait_for()
    page.wait_for_timeout(1500)

    assert failures.locator("li").count() == 1
    assert failures.locator(".explanation").is_visible()
    assert page.get_by_label("Recent refusals").locator("li").count() == 5
    failures.locator("summary").click()
    failures.locator("summary", has_text="/status/503/more").first.wait_for()


def test_it_can_be_walked_by_keyboard(gateway: Process, visit: Open) -> None:
    page = ready(visit(gateway))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.evaluate("location.hash") == "#overview"

    for number, view in enumerate(VIEWS, 1):
        page.keyboard.press(str(number))
        page.locator(f"#view-{view}").wait_for()
        assert page.locator("nav [aria-current=page]").get_attribute("href") == f"#{view}"
    page.locator("nav [aria-current=page]").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("location.hash") == "#overview"
    page.keyboard.press("ArrowRight")
    page.locator("#view-routes").wait_for()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("/")
    page.keyboard.type("ord3")
    assert page.evaluate("document.activeElement.value") == "ord3"  # and no view was changed
    page.keyboard.press("Backspace")
    assert list(table(page, "Routes")) == ["orders"]
    page.get_by_role("button", name="Rate").press("Enter")
    assert page.get_by_role("columnheader", name="Rate").get_attribute("aria-sort") == "descending"


CONTRASTS = """() => {
  const parsed = text => text.match(/[\\d.]+/g).map(Number)
  const light = colour => colour.slice(0, 3).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
  const ground = node => { for (let at = node; at; at = at.parentElement) {
    const colour = parsed(getComputedStyle(at).backgroundColor)
    if (colour[3] === undefined || colour[3] === 1) return colour }
    return [255, 255, 255] }
  const poor = []
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement
    if (!texts.currentNode.data.trim() || !node.checkVisibility() || node.closest("dialog, noscript, script")) continue
    const [a, b] = [light(parsed(getComputedStyle(node).color)), light(ground(node))]
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
    if (ratio < 4.5) poor.push(`${texts.currentNode.data.trim()}: ${ratio.toFixed(2)}`)
  }
  return poor
}"""


def test_it_fits_narrow_screens_and_reads_well_in_light_and_dark(gateway: Process, visit: Open) -> None:
    for path in ("/orders/1", "/status/503/" + "a-long-path-without-end" * 20, "/limited", "/private", "/nowhere"):
        gateway.ask(path)
    page = ready(visit(gateway, color_scheme="light", viewport={"width": 360, "height": 740}))
    for view in VIEWS:
        go(page, view)
        if view == "problems":
            page.locator("#view-problems summary").first.click()
        if view == "configuration":
            page.locator("#view-configuration summary", has_text="private").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(CONTRASTS) == [], (view, scheme)


def test_what_clients_send_is_shown_as_text(gateway: Process, visit: Open) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    try:
        connection.request("GET", "/nowhere/<svg/onload=alert(1)>", headers={"User-Agent": HOSTILE})
        connection.getresponse().read()
    finally:
        connection.close()

    page = ready(visit(gateway, "problems"))

    page.get_by_text("onload=alert(1)").first.wait_for()
    assert page.locator("main img, main script, main .asked svg").count() == 0


def told_now(page: Page) -> dict[str, Any]:
    """One state of the feed."""
    told: dict[str, Any] = page.evaluate(
        """async () => {
            const reader = (await fetch("api/v1/live")).body.pipeThrough(new TextDecoderStream()).getReader()
            let read = ""
            while (!/data: (.*)\\n\\n/.test(read)) read += (await reader.read()).value
            await reader.cancel()
            return JSON.parse(/data: (.*)\\n\\n/.exec(read)[1])
        }"""
    )
    return told


def tell(page: Page, state: dict[str, Any]) -> None:
    """This is the state from the next load on."""
    frame = f"event: state\ndata: {json.dumps(state)}\n\n"
    page.route("**/api/v1/live", lambda route: route.fulfill(body=frame, content_type="text/event-stream"))


def test_of_many_routes_and_troubles_the_worst_are_on_the_screen(gateway: Process, visit: Open) -> None:
    page = ready(visit(gateway))
    told = told_now(page)
    (target,) = told["upstreams"][0]["targets"]
    well = {**target, "circuit": "closed", "rate": 1.0, "error_rate": 0.0}
    upstream = {**told["upstreams"][0], "paused": 0}
    told["upstreams"] = [
        {**upstream, "name": f"up{number}", "targets": [{**well, "circuit": "open"} if number == 39 else well]}
        for number in range(40)
    ]
    told["routes"] = [
        {**told["routes"][0], "name": f"r{number}", "upstreams": [f"up{number}"], "error_rate": float(number > 20)}
        for number in range(40)
    ]
    tell(page, told)

    page.reload()

    page.locator(".troubles", has_text="… and 14 more.").wait_for()
    assert page.locator(".troubles li", has_text="with 5xx").count() == 5
    assert page.locator(".troubles", has_text="of up39 (asked by r39)").count() == 1
    go(page, "map")
    page.locator(".node[data-key='r r39']").wait_for()
    height = page.viewport_size["height"]
    for key in ("clients", "r r39", "u up39"):
        assert page.locator(f".node[data-key='{key}']").bounding_box()["y"] < height, key


def test_whatever_the_feed_says_is_shown_as_text(gateway: Process, visit: Open) -> None:
    page = ready(visit(gateway))
    told = told_now(page)
    problem = dict.fromkeys(("at", "id", "method", "path", "reason", "detail", "explanation", "trace_id", "client"), "")
    told["errors"] = [{**problem, "status": 500, "hops": [{"stage": "", "name": "", "outcome": "", "at_ms": 0}]}]
    told["probes"] = [{"name": "", "method": "", "path": "", "up": False, "last": {"detail": ""}}]
    told["alerts"] = [{"name": "", "state": "firing", "labels": {"a": ""}, "summary": ""}]
    tell(page, poisoned(told))

    page.reload()

    for view in VIEWS:
        go(page, view)
        page.wait_for_timeout(50)
        for summary in page.locator(f"#view-{view} summary").all()[:1]:
            summary.click()
    assert page.locator(".troubles", has_text="<img src=x").count() == 1
    assert page.locator("main img, main script").count() == 0
    assert "hacked" not in page.evaluate("document.title")


def poisoned(value: Any) -> Any:
    """The same with every text an attack."""
    match value:
        case dict():
            return {name: poisoned(each) for name, each in value.items()}
        case list():
            return [poisoned(each) for each in value]
        case str():
            return HOSTILE
    return value
