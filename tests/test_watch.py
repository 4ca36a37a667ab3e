"""The live page: files of a results folder in, what changed out; for who has the token, as text, in a browser."""

from __future__ import annotations

import asyncio
import importlib.resources
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from browser import CHROMIUM, Page, browser
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.options import CommandError
from bench.grid.load import load_plan
from bench.grid.plan import Plan
from bench.record import live as live_file
from bench.record.extras import EXTRAS
from bench.record.live import Live
from bench.record.plan_file import plan_json
from bench.record.records import Records
from bench.record.status import Status
from bench.watch.board import Board, difference
from bench.watch.runs import Run, Runs, thinned
from bench.watch.tail import Tail
from lab.result import Evaluation

HOSTILE = "<img src=x onerror=document.title='lost'>"
LABEL = "<script>document.title.at(0)</script>"
COMMAND = 'command: "echo {flags} --seed {seed}"'
GRID = f"""
name: houses
question: "Is <script>document.title='lost'</script> better?"
run: {{{COMMAND}}}
metrics:
  test_rmse: {{better: lower, unit: EUR, at: dev_rmse}}
  dev_rmse: {{better: lower, split: dev, at: best}}
factors: {{note: ["plain", "{LABEL}"]}}
baseline: {{note: plain}}
seeds: 3
"""


class AtOnce(ThreadPoolExecutor):
    """Does each task where it is submitted."""

    def submit(self, task: Any, /, *given: Any, **named: Any) -> Future[Any]:
        done = super().submit(task, *given, **named)
        wait([done])
        return done


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A grid with two cells and three seeds, and its results folder without a result."""
    folder = tmp_path / "results" / "houses"
    folder.mkdir(parents=True)
    (folder / "grid.yaml").write_text(GRID)
    plan = load_plan(folder / "grid.yaml")
    (folder / "plan.json").write_text(plan_json(plan))
    return plan


@pytest.fixture
def folder(plan: Plan, tmp_path: Path) -> Path:
    return tmp_path / "results" / "houses"


def record(folder: Path, plan: Plan, at: int, rmse: float | None, error: str = "") -> str:
    """Records the trial at that place of the plan; returns its id."""
    trial = plan.trials[at]
    row = {"trial_id": trial.trial_id, "grid": plan.name, "cell": trial.cell.label, "seed": trial.seed, "error": error}
    row |= {"status": "error" if rmse is None else "ok", "test_rmse": rmse, "dev_rmse": rmse}
    points = [Evaluation(step, step, 1.0, 0.1, {"dev_rmse": 9.0 - step}) for step in range(3)]
    Records(folder, plan.selecting).append(row, [], points)
    return trial.trial_id


def point(step: int, value: float) -> Evaluation:
    return Evaluation(step, float(step), 1.0, 0.1, {"dev_rmse": value})


def read_board(folder: Path, times: int = 3) -> Board:
    board = Board(folder.parent, workers=AtOnce())
    for _ in range(times):
        board.refresh()
        board._not_before.clear()
    return board


# --- what a run leaves ----------------------------------------------------------------------------------------------


def test_a_run_tells_what_it_does_a_line_per_event(folder: Path, plan: Plan) -> None:
    times = iter(range(100, 200))
    with Live(folder, plan, now=lambda: float(next(times))) as live:
        live.begin(2, 1)
        live.started(0, plan.trials[0])
        live.evaluated(0, point(1, 2.5))
        live.ended(0, plan.trials[0].trial_id, Status.OK)
    told = [json.loads(line) for line in (folder / "live.jsonl").read_text().splitlines()]
    assert [line["event"] for line in told] == ["begin", "started", "point", "ended", "end"]
    assert told[2]["scores"] == {"dev_rmse": 2.5}
    assert {line["run"] for line in told} == {told[0]["run"]}


def test_what_comes_faster_than_anybody_can_see_is_left_out(folder: Path, plan: Plan) -> None:
    with Live(folder, plan, now=lambda: 100.0) as live:
        live.started(0, plan.trials[0])
        for step in range(50):
            live.evaluated(0, point(step, 1.0))
    assert (folder / "live.jsonl").read_text().count('"point"') == 1


def test_the_file_is_cut_to_the_newest_half_with_what_runs_now(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_file, "CAP", 20_000)
    with Live(folder, plan) as live:
        live.begin(6, 2)
        live.started(0, plan.trials[0])
        for _ in range(300):
            live.started(1, plan.trials[1])
            live.ended(1, plan.trials[1].trial_id, Status.OK)
        assert (folder / "live.jsonl").stat().st_size <= 21_000
        runs = Runs()
        runs.tell((folder / "live.jsonl").read_bytes().splitlines(), "dev_rmse")
        assert [one.trial for _, _, one in runs.under_way(time.time())] == [plan.trials[0].trial_id]


def test_a_folder_that_is_gone_or_not_to_be_written_harms_no_run(folder: Path, plan: Plan) -> None:
    (folder / "live.jsonl").mkdir()
    for where in (folder, folder / "gone"):
        with Live(where, plan) as live:
            live.begin(1, 1)
            live.started(0, plan.trials[0])
            live.lost(0, "its node is gone")
    assert not (folder / "gone").exists()


# --- reading files that grow ----------------------------------------------------------------------------------------


def test_a_line_is_read_when_it_is_whole_and_once(tmp_path: Path) -> None:
    file, tail = tmp_path / "rows.csv", Tail(tmp_path / "rows.csv")
    assert tail.read() == (False, [])
    file.write_text("a,b\n1,2\n3,")
    assert tail.read() == (True, [b"1,2"])
    assert tail.header == b"a,b"
    with file.open("a") as more:
        more.write("4\n")
    assert tail.read() == (False, [b"3,4"])
    assert tail.read() == (False, [])


def test_a_file_that_was_replaced_or_cut_is_read_anew(tmp_path: Path) -> None:
    file, tail = tmp_path / "rows.csv", Tail(tmp_path / "rows.csv")
    file.write_text("a\n1\n2\n")
    tail.read()
    (tmp_path / "other").write_text("a\n3\n")
    (tmp_path / "other").replace(file)
    assert tail.read() == (True, [b"3"])
    os.truncate(file, 2)
    assert tail.read() == (True, [])


def test_of_a_long_file_only_the_end_is_read_at_first(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n" + "".join(f"{n:03}\n" for n in range(100)))
    tail = Tail(tmp_path / "rows.csv", most=10)
    assert tail.read() == (True, [b"098", b"099"])
    assert tail.header == b"a"


def test_a_link_or_a_pipe_in_the_place_of_a_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a\n1\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("link.csv", "pipe.csv"):
        assert Tail(tmp_path / name).read() == (False, [])


# --- runs -----------------------------------------------------------------------------------------------------------


def test_lines_that_are_not_ours_are_left_out() -> None:
    runs, good = Runs(), {"at": 5, "run": "r", "event": "begin", "trials": 4, "workers": 2}
    odd: list[Any] = [b"{", b"[]", b"null", b'"x"', b"\xff", b'{"event": "started"}', b'{"event": ["x"]}']
    odd += [json.dumps(good | {"at": one}).encode() for one in ("soon", None, "nan")]
    odd += [b"[" * 100_000, b'{"at": ' + b"9" * 10_000 + b"}"]
    odd += [json.dumps(good | {"event": "point", "worker": 0, "scores": 3}).encode()]
    runs.tell([*odd, json.dumps(good).encode()], "dev_rmse")
    assert runs.runs["r"].trials == 4
    assert runs.under_way(6) == []


def test_the_time_left_is_that_of_the_cells_that_are_left() -> None:
    run = Run(trials=5, num_workers=2, ended=2, times={"fast": [1, 10.0], "slow": [1, 50.0]})
    assert run.seconds_left({"slow": 3}, now=100) == pytest.approx(3 * 50 / 2)
    assert run.seconds_left({"fast": 2, "slow": 1}, now=100) == pytest.approx((10 + 10 + 50) / 2)
    assert Run(trials=5).seconds_left({"fast": 5}, now=100) is None


def test_a_run_without_a_sign_of_life_is_said_to_be_silent(folder: Path, plan: Plan) -> None:
    with Live(folder, plan, now=lambda: time.time() - 300) as live:
        live.started(0, plan.trials[0])
        board = read_board(folder)
        (said,) = board.view("houses")["grids"].values()
    assert said["state"] == "silent"
    assert "no sign of life of its run for 5 min" in said["said"]


def test_a_long_curve_keeps_its_ends() -> None:
    points = [(float(n), float(n)) for n in range(121)]
    assert len(thinned(points)) == 61
    assert (thinned(points)[0], thinned(points)[-1]) == (points[0], points[-1])


# --- what is shown --------------------------------------------------------------------------------------------------


def test_progress_means_failures_and_curves_are_those_of_the_files(folder: Path, plan: Plan) -> None:
    record(folder, plan, 0, 2.0)
    record(folder, plan, 1, 3.0)
    lost = record(folder, plan, 3, None, "no convergence")
    view = read_board(folder).view("houses")
    assert view["grids"]["houses"]["said"] == "3 of 6 trials, 1 without a result"
    first, second = view["cells"].values()
    assert (first["done"], first["mean"], first["failed"]) == ("2 of 3", "2.5 EUR", "")
    assert (second["done"], second["mean"], second["failed"]) == ("1 of 3", "", 1)
    assert view["failures"][lost]["error"] == "no convergence"
    panel = view["curves"][plan.cells[0].label]
    assert [line["points"] for line in panel["lines"]] == [[[0.0, 9.0], [1.0, 8.0], [2.0, 7.0]]] * 2
    assert panel["said"] == "seed 1: 9 to 7; seed 0: 9 to 7"


def test_rows_count_in_the_cell_that_their_trial_has_today_whatever_it_was_called(folder: Path, plan: Plan) -> None:
    record(folder, plan, 0, 2.0)
    file = folder / "trials.csv"
    file.write_text(file.read_text().replace(f",{plan.cells[0].label},", ",former=label,"))
    assert "former=label" in file.read_text()
    view = read_board(folder).view("houses")
    assert [cell["done"] for cell in view["cells"].values()] == ["1 of 3", "0 of 3"]
    assert list(view["curves"]) == [plan.cells[0].label]


def test_rows_that_cannot_be_read_are_left_out(folder: Path, plan: Plan) -> None:
    record(folder, plan, 0, 2.0)
    with (folder / "trials.csv").open("ab") as file:
        file.write(b"too,few\n" + b'"' * 99 + b"\n\x00\xff\n" + b"x" * 200_000 + b"\n" + b"," * 300 + b"\n")
    record(folder, plan, 1, 4.0)
    (cell, _) = read_board(folder).view("houses")["cells"].values()
    assert (cell["done"], cell["mean"]) == ("2 of 3", "3 EUR")


def test_what_is_no_line_fills_no_memory(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"a\n" + b"x" * 5_000_000)
    tail = Tail(tmp_path / "rows.csv")
    assert tail.read() == (True, [])
    assert len(tail._rest) <= 1 << 20


def test_a_failed_trial_that_is_run_again_counts_once(folder: Path, plan: Plan) -> None:
    record(folder, plan, 0, None, "lost")
    board = read_board(folder)
    record(folder, plan, 0, 4.0)
    board.refresh()
    view = board.view("houses")
    assert view["grids"]["houses"]["said"] == "1 of 6 trials"
    assert not view["failures"]


def test_workers_show_the_curve_as_it_grows(folder: Path, plan: Plan) -> None:
    with Live(folder, plan) as live:
        live.begin(6, 1)
        live.started(0, plan.trials[0], "node7")
        live.evaluated(0, point(4, 2.5))
        view = read_board(folder).view("houses")
    (worker,) = view["workers"].values()
    assert (worker["worker"], worker["place"], worker["score"]) == ("0 on node7", "step 4", "2.5")
    (panel,) = view["curves"].values()
    assert panel["lines"][0] == {"trial": plan.trials[0].trial_id, "seed": "0", "grows": True, "points": [[4.0, 2.5]]}


def test_findings_are_the_reports_and_their_text_is_escaped(folder: Path, plan: Plan) -> None:
    for at, rmse in enumerate([2.0, 2.1, 2.05, 5.02, 5.08, 5.1]):
        record(folder, plan, at, rmse)
    board = Board(folder.parent, workers=AtOnce())
    with board._reading("houses"):
        for _ in range(4):
            board.refresh()
            board._not_before.clear()
    made = board.view("houses")["sections"]
    assert made["problem"] == ""
    assert "worse" in made["answer"]
    assert "Effects on test rmse" in made["verdicts"]
    assert "<script" not in "".join(made.values())
    assert "&lt;script&gt;" in made["answer"]


def test_findings_are_made_only_for_who_looks(folder: Path, plan: Plan) -> None:
    record(folder, plan, 0, 2.0)
    assert read_board(folder).view("houses")["sections"] == {}


def test_a_grid_that_is_named_is_waited_for(folder: Path, plan: Plan) -> None:
    plan_file, grid_file = (folder / name for name in ("plan.json", "grid.yaml"))
    plan_file.rename(folder / "later.json")
    grid_file.rename(folder / "later.yaml")
    board = Board(folder.parent, ["houses"], AtOnce())
    for _ in range(3):
        board.refresh()
        board._not_before.clear()
    assert board.view("houses")["grids"]["houses"]["said"] == "houses has no grid.yaml yet"
    (folder / "later.json").rename(plan_file)
    (folder / "later.yaml").rename(grid_file)
    for _ in range(3):
        board.refresh()
        board._not_before.clear()
    assert board.view("houses")["grids"]["houses"]["said"] == "0 of 6 trials"


def test_a_grid_whose_plan_names_code_and_is_not_kept_is_not_imported(folder: Path) -> None:
    (folder / "plan.json").unlink()
    (folder / "grid.yaml").write_text(GRID.replace('command: "echo {flags} --seed {seed}"', "function: os:abort"))
    assert "names code (os:abort)" in read_board(folder).view("houses")["head"]["question"]


def test_a_file_that_leads_out_of_the_results_folder_is_not_read(folder: Path, plan: Plan, tmp_path: Path) -> None:
    record(folder, plan, 0, 2.0)
    (folder / "curves.csv").rename(tmp_path / "curves.csv")
    (folder / "curves.csv").symlink_to(tmp_path / "curves.csv")
    view = read_board(folder).view("houses")
    assert "houses/curves.csv leads out of the results folder" in view["head"]["question"]


def test_only_what_changed_is_sent_and_what_is_gone_is_none() -> None:
    before = {"cells": {"a": 1, "b": 2}, "head": {"x": 1}}
    assert difference(before, before) == {}
    assert difference(before, {"cells": {"a": 1, "c": 3}}) == {"cells": {"b": None, "c": 3}, "head": {"x": None}}


def test_a_reader_gets_all_at_first_and_then_the_changes(folder: Path, plan: Plan) -> None:
    async def two() -> list[Any]:
        board = Board(folder.parent, workers=AtOnce())
        board.refresh()
        board.refresh()
        changes = board.changes("houses")
        first = await anext(changes)
        record(folder, plan, 0, 2.0)
        task = asyncio.create_task(board.keep_up())
        second = await asyncio.wait_for(anext(changes), 30)
        task.cancel()
        await changes.aclose()
        assert not board._readers
        return [first, second]

    first, second = asyncio.run(two())
    assert len(first["cells"]) == 2
    assert next(iter(second["cells"].values()))["done"] == "1 of 3"
    assert len(second["cells"]) == 1


# --- who may ask ----------------------------------------------------------------------------------------------------

TOKEN = "t0ken"


@contextmanager
def served(results: Path) -> Iterator[str]:
    """The address of a server that runs in a thread of this process."""
    pytest.importorskip("sse_starlette", reason="needs the extra watch")
    from bench.watch.server import Service, listen

    listening = listen(0)
    service = Service(Board(results, workers=AtOnce()), TOKEN, listening)
    thread = threading.Thread(target=lambda: asyncio.run(service.run()))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/?token={TOKEN}"
    finally:
        service.stop()
        thread.join()
        listening.close()


@dataclass
class Client:
    """Asks a server for something, with any headers."""

    port: int

    def ask(self, path: str, method: str = "GET", headers: Mapping[str, str] = {}, **query: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, f"{path}?{urlencode(query)}", skip_host="host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        with closing(connection), connection.getresponse() as answer:
            self.headers = answer.headers
            return answer.status, answer.read().decode()

    def status(self, path: str = "/", method: str = "GET", token: str = TOKEN, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask(path, method, named, token=token)[0]


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with served(folder.parent) as address:
        yield Client(int(address.split(":")[2].split("/")[0]))


def test_the_page_and_its_parts_are_there_for_who_has_the_token(client: Client) -> None:
    for path in ("/", "/watch.js", "/style.css"):
        assert client.status(path) == 200
        assert "script-src 'self'" in client.headers["content-security-policy"]
        assert client.headers["cache-control"] == "no-store"
        assert client.status(path, token="") == client.status(path, token="other") == 403
    assert (
        client.status("/events", token="") == client.status("/log", token="") == client.status("/no", token="") == 403
    )


def test_a_name_that_is_not_this_host_is_refused(client: Client) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil", "[::1]:8765", "0.0.0.0", ""):
        assert client.status(host=host) == 403


def test_any_port_will_do_as_ssh_forwards_it(client: Client) -> None:
    for host in ("localhost", "localhost:9000", "127.0.0.1:1"):
        assert client.status(host=host) == 200


def test_a_page_of_another_origin_is_refused(client: Client) -> None:
    own = f"http://127.0.0.1:{client.port}"
    assert client.status(origin=own) == client.status(sec_fetch_site="same-origin") == 200
    assert client.status(origin="http://127.0.0.1:1") == client.status(origin="null") == 403
    assert client.status(sec_fetch_site="cross-site") == client.status(sec_fetch_site="same-site") == 403
    clicked = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}  # the address, in a terminal on the web
    assert client.status(**clicked) == 200
    assert client.status("/log", **clicked) == 403


def test_nothing_can_be_changed(client: Client) -> None:
    assert {client.status(path, method) for path in ("/", "/log", "/events") for method in ("POST", "DELETE")} == {405}


def test_a_log_is_read_by_names_that_are_there_and_by_no_path(client: Client, folder: Path, tmp_path: Path) -> None:
    def log(grid: str, trial: str) -> tuple[int, str]:
        return client.ask("/log", token=TOKEN, grid=grid, trial=trial)

    (folder / "logs").mkdir()
    (folder / "logs" / "0123456789ab.log").write_text("lost " * 9000 + HOSTILE)
    (tmp_path / "secret.log").write_text("secret")
    (folder / "logs" / "aaaaaaaaaaaa.log").symlink_to(tmp_path / "secret.log")
    end = time.monotonic() + 30
    while log("houses", "0123456789ab")[0] != 200:  # until the folder has been looked at
        assert time.monotonic() < end
    text = log("houses", "0123456789ab")[1]
    assert len(text) == 20_000
    assert text.endswith(HOSTILE)
    assert log("houses", "aaaaaaaaaaaa") == log("houses", "bbbbbbbbbbbb") == (200, "no log")
    for grid, trial in [("..", "0123456789ab"), ("houses", "../../secret"), ("houses", "../grid.yaml"), ("", "")]:
        assert log(grid, trial)[0] == 404
    (folder / "logs").rename(tmp_path / "logs")
    (folder / "logs").symlink_to(tmp_path / "logs")
    assert "leads out" in log("houses", "0123456789ab")[1]


def test_where_the_look_at_the_files_fails_the_server_ends_with_why(folder: Path) -> None:
    pytest.importorskip("sse_starlette", reason="needs the extra watch")
    from bench.watch.server import Service, listen

    class Broken(Board):
        def refresh(self) -> None:
            raise RuntimeError("a fault of ours")

    with listen(0) as listening, pytest.raises(RuntimeError, match="a fault of ours"):
        asyncio.run(Service(Broken(folder.parent), TOKEN, listening).run())


# --- the command ----------------------------------------------------------------------------------------------------


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "watch", {"no_such_server": "no-such-server"})
    done = CliRunner().invoke(app, ["watch", "--results", str(tmp_path)])
    assert isinstance(done.exception, CommandError)
    assert str(done.exception) == "watch needs no-such-server: pip install no-such-server"


def test_a_folder_that_is_not_there_and_a_port_that_is_taken_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("sse_starlette", reason="needs the extra watch")
    from bench.watch.server import listen

    done = CliRunner().invoke(app, ["watch", "--results", str(tmp_path / "none")])
    assert "no such folder" in str(done.exception)
    with listen(0) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["watch", "--results", str(tmp_path), "--port", port])
    assert f"--port {port} cannot be listened on" in str(done.exception)


def test_it_prints_its_address_serves_findings_and_ends_when_it_is_asked_to(folder: Path, plan: Plan) -> None:
    pytest.importorskip("sse_starlette", reason="needs the extra watch")
    record(folder, plan, 0, 2.0)
    words = [sys.executable, "-m", "bench", "watch", "--port", "0", "--results", str(folder.parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port, token = re.findall(r"127.0.0.1:(\d+)/\?token=(\S+)", process.stdout.readline())[0]
        with urlopen(f"http://127.0.0.1:{port}/events?token={token}&grid=houses", timeout=60) as events:
            assert any(b"Undecided" in line for line in iter(events.readline, b""))  # a worker has made the findings
            process.terminate()  # as Ctrl-C does, which a shell's background job is not told
            assert events.read() is not None  # it ends as a whole answer does
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


# --- in a browser ---------------------------------------------------------------------------------------------------


AXE = """axe.run().then(found => found.violations.map(one => one.id + ": " + one.nodes[0].html.slice(0, 200)))"""


def audit(page: Page) -> list[str]:
    axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.ask(axe + "; null")
    return page.ask(AXE)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(importlib.util.find_spec("websockets") is None, reason="websockets is not installed")
def test_in_a_browser_it_is_live_shows_text_as_text_and_is_accessible(folder: Path, plan: Plan, tmp_path: Path) -> None:
    lost = record(folder, plan, 3, None, HOSTILE)
    (folder / "logs").mkdir()
    (folder / "logs" / f"{lost}.log").write_text(f"at the end: {HOSTILE}")
    with served(folder.parent) as address, browser(tmp_path / "profile") as page, Live(folder, plan) as live:
        page.open(address)
        page.wait_for("document.getElementById('said').textContent === '1 of 6 trials, 1 without a result'")
        live.begin(5, 1)
        live.started(0, plan.trials[0])
        live.evaluated(0, point(1, 2.5))
        page.wait_for("document.querySelector('#workers td:nth-child(5)')?.textContent === '2.5'")
        page.wait_for("document.querySelectorAll('#curves .grows').length === 1")
        record(folder, plan, 0, 2.0)
        live.ended(0, plan.trials[0].trial_id, Status.OK)
        page.wait_for("document.getElementById('said').textContent.startsWith('2 of 6 trials')")
        page.ask("document.querySelector('#failures summary').click()")
        page.wait_for(f"document.querySelector('#failures pre').textContent === {json.dumps('at the end: ' + HOSTILE)}")
        page.wait_for("document.querySelector('#section-answer .answer') !== null")
        assert page.ask("document.querySelectorAll('main img, main script').length") == 0
        assert page.ask("document.title") == "33 % houses"
        assert audit(page) == []
        for width, look in [(375, "dark"), (1600, "light")]:
            page.size(width)
            page.prefer(prefers_color_scheme=look)
            assert page.ask("document.documentElement.scrollWidth <= innerWidth")
        assert audit(page) == []
        page.ask("document.querySelector('.skip').click()")
        assert page.ask("document.activeElement.id + location.hash") == "content#houses"
        assert page.errors == []
