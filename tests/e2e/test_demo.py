"""The demo, the examples and the benchmarks run and keep their promises, in their short forms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import processes
from bench.harness import Row, Samples, alternate
from examples.analyse import analyse
from examples.notebook import notebook

ROOT = Path(__file__).parents[2]


def run(*line: str, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "SANDCOVE_HOME"}
    return subprocess.run(
        [sys.executable, *line], check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
    )


def test_the_demo_keeps_its_promises(capable: None) -> None:
    done = run("-m", "examples.demo", "--quick")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "All as promised." in done.stdout
    assert "Traceback" not in done.stderr


def test_the_grading_example_tells_good_from_bad(home: Path) -> None:
    line = [sys.executable, "-m", "examples.grade"]
    done = subprocess.run(line, check=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    verdicts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert verdicts["ada"] == "right"
    assert verdicts["bob"] == "wrong: printed '7\\n'"
    assert verdicts["eve"].startswith("failed: FileNotFoundError")
    assert verdicts["mallory"] == "right"
    assert verdicts["sloth"] == "ran for over 5 s"
    assert verdicts["zoe"].startswith("failed: NameError")


def test_data_is_analysed_in_python_and_javascript(home: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sales.png"
    assert analyse(picture) == {"best": "Jun", "total": 370, "mean": 280}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_notebook_page_is_what_its_cells_give(home: Path, tmp_path: Path) -> None:
    assert notebook(tmp_path) == (ROOT / "docs" / "notebook.md").read_text(), "python -m examples.notebook docs"
    for picture in (tmp_path / "pictures").iterdir():
        # Bytes 16 to 24 are width and height; the rest may change with a library's version.
        assert picture.read_bytes()[:24] == (ROOT / "docs" / "pictures" / picture.name).read_bytes()[:24]


QUICK = [
    "create",
    "exec",
    "stream",
    "memory",
    "log_readers",
    "transfer",
    "code_print",
    "code_fork",
    "code_memory",
    "preview_websocket",
    "remote_exec",
]


@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_answers(name: str, capable: None, tmp_path: Path) -> None:
    if ("memory" in name or "preview" in name) and os.geteuid() != 0:
        pytest.skip("an ordinary user may not look into agents, nor into the network of a sandbox")
    report = tmp_path / "report.json"
    done = run("-m", "bench", name, "--quick", "--json", str(report))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = json.loads(report.read_text())["rows"]
    assert rows
    # What ours adds to a peer's time is a difference of two that noise can turn round.
    assert all(row["ours_p50"] > 0 for row in rows if row["unit"] == "ms" and "added" not in row["name"])


def test_an_unknown_benchmark_is_refused_with_the_names() -> None:
    done = run("-m", "bench", "nothing")
    assert done.returncode == 2
    assert "create" in done.stderr


def test_percentiles_are_measured_values() -> None:
    samples = Samples([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (samples.p50, samples.p95) == (3.0, 5.0)
    assert (Samples([7.0]).p50, Samples([7.0]).p95) == (7.0, 7.0)


def test_measurements_alternate_and_drop_the_warm_up() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = alternate({"a": lambda: measure("a"), "b": lambda: measure("b")}, times=2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert (found["a"].values, found["b"].values) == ([3.0, 5.0], [4.0, 6.0])


def test_a_bar_is_kept_or_missed() -> None:
    fast, slow = Samples([1.0]), Samples([10.0])
    assert Row("q", "ms", fast, "peer", slow).holds is None
    assert Row("q", "ms", fast, "peer", slow, most_ratio=0.2).holds is True
    assert Row("q", "ms", slow, "peer", fast, most_ratio=5).holds is False
    assert Row("q", "ms", slow, most=5).holds is False
    assert Row("q", "MB/s", slow, least=5).holds is True
    assert Row("q", "/s", slow, "peer", fast, least_ratio=5).holds is True
    assert Row("q", "/s", fast, "peer", slow, least_ratio=0.3).holds is False
    assert Row("q", "/s", fast, least_ratio=0.3).holds is None, "there is no peer here"


def test_the_memory_of_this_process_is_told() -> None:
    if os.geteuid() == 0:
        assert processes.proportional_memory([os.getpid()]) > 5
    else:
        with pytest.raises(PermissionError):
            processes.proportional_memory([os.getpid()])
    assert processes.agents([os.getpid()]) == [os.getpid()]
    # In a process that does nothing else: of one that has run for long the kernel may take back much at any time.
    code = """
import os
from bench.processes import peak_memory
with peak_memory([os.getpid()]) as peak:
    block = bytearray(50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    del block
print(peak.over_idle)
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 40 < float(told) < 80


def test_what_is_left_of_a_folder_is_found(tmp_path: Path) -> None:
    with subprocess.Popen(["cat", str(tmp_path / "x"), "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.pid in processes.of_home(tmp_path)
        assert child.pid in processes.all_gone(tmp_path, within=0.01)
        child.kill()
        child.wait()
    assert processes.all_gone(tmp_path, within=0.01, also={child.pid: "cat"}) == {}
    assert processes.mounts_below(tmp_path) == []
