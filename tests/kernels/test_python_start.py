"""How Python kernels start: warm, cold, in other Pythons, or not."""

from __future__ import annotations

import ast
import io
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from sandcove.kernels.python.archive import COLD, archive
from tests.kernels.conftest import MakePython
from tests.kernels.driver import Driver
from tests.kernels.pythons import Cold, Warm, Zygote, environment

VERSIONS = [f"3.{minor}" for minor in range(10, 15)]


def text(python: Driver, code: str) -> str:
    cell = python.run(code)
    assert cell.error is None, cell.error
    return str(cell.result["text"])


def interpreter(version: str) -> str | None:
    """A Python of that version on this machine."""
    found = shutil.which(f"python{version}")
    candidates = [found] if found else []
    candidates += [str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")]
    for candidate in candidates:
        if subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
            return candidate
    return None


def test_a_warm_kernel_says_what_it_is(python: Driver) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    assert python.ready["version"].startswith(f"Python {version}, IPython ")
    assert python.ready["notes"] == []
    assert python.ready["pid"] == python.pid


def test_a_cold_kernel_is_the_same_program(tmp_path: Path) -> None:
    with Cold(sys.executable, cwd=tmp_path) as python:
        assert "IPython" in python.ready["version"]
        assert text(python, "%env HOME") == "'/nonexistent'"
        assert text(python, "import sys\n'numpy' in sys.modules, sys.argv") == "(False, [''])"
        assert "png" in python.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);").result
        assert "plotly" in python.run("import plotly.express as px\npx.line(x=[1], y=[2])").result
        assert text(python, "plt.get_backend()") == "'inline'"


def test_a_backend_that_the_user_chose_stays(tmp_path: Path) -> None:
    with Cold(sys.executable, cwd=tmp_path) as python:
        cell = python.run("import matplotlib\nmatplotlib.use('Agg')\nimport matplotlib.pyplot as plt\nplt.plot([1]);")
        assert cell.results == []
        assert text(python, "plt.get_backend().lower()") == "'agg'"


def test_a_bare_python_says_what_is_missing(bare_python: str, tmp_path: Path) -> None:
    with Cold(bare_python, cwd=tmp_path) as python:
        first, second = python.ready["notes"]
        assert "pip install 'sandcove[interpreter]'" in first
        assert "numpy, pandas, matplotlib" in second
        for code in ("%time 1", "!ls", "x = !ls", "len?", "%%bash\nls"):
            error = python.run(code).error
            assert error is not None
            assert error["ename"] == "SyntaxError"
            assert "IPython is not installed" in error["evalue"], code
        error = python.run("1 +").error
        assert error is not None
        assert "IPython" not in error["evalue"]


def test_modules_of_the_users_folder_do_not_stand_in_for_the_kernels(bare_python: str, tmp_path: Path) -> None:
    for name in ("json", "socket", "select", "traceback", "types", "signal", "sandcove", "IPython", "traitlets"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('imported')\n")
    for python in (sys.executable, bare_python):
        with Cold(python, cwd=tmp_path) as kernel:
            assert text(kernel, "1 + 1") == "2"
            error = kernel.run("import sandcove").error
            assert error is not None
            assert error["ename"] == "SystemError"


def test_matplotlib_without_ipython(bare_python: str, tmp_path: Path) -> None:
    """Where IPython can't be imported, though the rest can."""
    hidden = tmp_path / "hidden"
    (hidden / "IPython").mkdir(parents=True)
    (hidden / "IPython" / "__init__.py").write_text("raise ImportError('hidden')\n")
    with Cold(sys.executable, cwd=tmp_path, env=environment(PYTHONPATH=str(hidden))) as python:
        assert "IPython" not in python.ready["version"]
        start = "import matplotlib.pyplot as plt\n"
        cell = python.run(start + "print('a')\nplt.plot([1])\nplt.show()\nprint('b')\nfig, ax = plt.subplots()\nfig")
        assert [kind for kind, _ in cell.events] == ["stdout", "result", "stdout", "result", "done"]
        assert [("png" in r, r.get("main", False)) for r in cell.results] == [(True, False), (True, True)]
        assert "png" in python.run("plt.plot([1])\nNone").result
        assert text(python, "plt.get_fignums()") == "[]"
        assert "html" in python.run("import pandas as pd\npd.DataFrame({'a': [1]})").result
        assert "plotly" in python.run("import plotly.express as px\npx.line(x=[1], y=[2])").result
        assert "plotly" in python.run("px.line(x=[1], y=[2]).show()").result
        assert "latex" in python.run("import sympy\nsympy.Symbol('x') ** 2").result


@pytest.mark.parametrize("version", VERSIONS)
def test_any_python_from_3_10_on_runs_cells(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    with Cold(python, cwd=tmp_path) as kernel:
        assert kernel.ready["version"].startswith(f"Python {version}.")
        assert text(kernel, "import asyncio\nawait asyncio.sleep(0, 5)") == "5"
        cell = kernel.run("import sys, os\nprint('a')\nprint('b', file=sys.stderr)\nos.system('echo c')\n{'x': 1}")
        assert (cell.stdout, cell.stderr, cell.result["json"]) == ("a\nc\n", "b\n", {"x": 1})
        error = kernel.run("def f():\n    1/0\nf()").error
        assert error is not None
        assert error["lineNumber"] == 2
        assert text(kernel, "import os\npid = os.fork()\npid and os.waitpid(pid, 0)[1]") == "0"
        kernel.run("task = asyncio.get_event_loop().create_task(asyncio.sleep(0.001, 'slept'))")

        def on_event(kind: str, value: object) -> None:
            if kind == "stdout":
                kernel.interrupt()

        for code in ("print('now')\nwhile True: pass", "print('now'); await asyncio.sleep(60)"):
            error = kernel.run(code, on_event=on_event, within=20).error
            assert error is not None
            assert error["ename"] == "KeyboardInterrupt"
        assert text(kernel, "await task") == "'slept'"
        with kernel.fork() as copy:
            assert text(copy, "await asyncio.sleep(0, 6)") == "6"
        assert text(kernel, "import random\n1") == "1"


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.9"])
def test_an_older_python_is_refused(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    done = subprocess.run([python, *COLD], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 3
    assert f"cells need Python 3.10 or newer, and {python} is {version}." in done.stderr


def test_the_archive_has_the_sources_alone_and_is_the_same_each_time() -> None:
    made = archive()
    assert made == archive()
    with zipfile.ZipFile(io.BytesIO(made)) as file:
        names = file.namelist()
        assert all(name.endswith((".py", ".pyc")) for name in names)
        assert {name.split("/")[2] for name in names if name.count("/") > 2} <= {"python", "charts"}
        assert file.read("sandcove/__init__.py") == b""
        assert "sandcove/kernels/python/main.py" in names


def test_the_start_is_valid_in_any_python() -> None:
    flag, code = COLD
    assert flag == "-c"
    ast.parse(code, feature_version=(3, 4))


class TestChanged:
    @staticmethod
    def ask(zygote: Zygote, tmp_path: Path, **env: str) -> tuple[str | None, float]:
        read, write = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)
        zygote.ask([null, write, null], tmp_path, environment(**env), changed=True)
        os.close(write)
        os.close(null)
        with open(read) as file:
            name, took = json.loads(file.read())
        return name, took

    @pytest.mark.alone
    def test_nothing_has_changed(self, zygote: Zygote, tmp_path: Path) -> None:
        took = []
        for _ in range(5):
            name, seconds = self.ask(zygote, tmp_path)
            assert name is None
            took.append(seconds)
        assert min(took) < 0.001, took

    def test_a_package_in_the_environments_path_comes_first(self, zygote: Zygote, tmp_path: Path) -> None:
        (tmp_path / "lib" / "pandas").mkdir(parents=True)
        assert self.ask(zygote, tmp_path, PYTHONPATH=str(tmp_path / "lib"))[0] == "pandas"
        assert self.ask(zygote, tmp_path, PYTHONPATH=str(tmp_path))[0] is None

    def test_a_package_that_is_upgraded_or_gone(self, tmp_path: Path) -> None:
        program = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import mine, other
from sandcove.kernels.python.preloaded import changed, remember
remember()
found = [changed()]
open(mine.__file__, 'a').write('#')
found.append(changed())
os.truncate(mine.__file__, 0)
os.utime(mine.__file__, ns=(0, 5))
found.append(changed())
remember()
found.append(changed())
os.unlink(other.__file__)
found.append(changed())
print(json.dumps(found))
"""
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "__init__.py").write_text("")
        (tmp_path / "other.py").write_text("")
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True
        )
        assert json.loads(done.stdout) == [None, "mine", "mine", None, "other"]


def test_a_package_in_a_users_folder_that_did_not_exist(tmp_path: Path) -> None:
    base = Path(sys.base_prefix) / "bin" / "python3"
    with Cold(str(base), cwd=tmp_path, env=environment(HOME=str(tmp_path))) as python:
        if text(python, "import site\nsite.ENABLE_USER_SITE") != "True":
            pytest.skip("this Python does not heed a user's folder")
        assert python.run("import late").error is not None
        folder = Path(text(python, "site.getusersitepackages()").strip("'"))
        folder.mkdir(parents=True)
        (folder / "late.py").write_text("a = 1\n")
        assert text(python, "import late\nlate.a") == "1"
        path = python.run("import sys\nsys.path").result["json"]
        packages = [entry for entry in path if entry.endswith("site-packages")]
        assert packages[0] == str(folder)


@pytest.mark.alone
def test_starting_warm_is_quick(zygote: Zygote, tmp_path: Path) -> None:
    took = []
    for _ in range(7):
        began = time.perf_counter()
        with Warm(zygote, cwd=tmp_path) as python:
            assert text(python, "1 + 1") == "2"
            took.append(time.perf_counter() - began)
    # 10 ms on a machine that does nothing else.
    assert min(took) < 0.050, took


@pytest.mark.alone
def test_a_short_cell_is_quick(python: Driver) -> None:
    took = []
    for _ in range(300):
        began = time.perf_counter()
        python.run("1 + 1")
        took.append(time.perf_counter() - began)
    # 0.3 ms, half of it this test's own, on a machine that does nothing else.
    assert statistics.median(took) < 0.002, statistics.median(took)


def test_the_channels_end_ends_the_kernel(make_python: MakePython, tmp_path: Path) -> None:
    for code in ("1", "import asyncio\nt = asyncio.get_event_loop().create_task(asyncio.sleep(60))"):
        python = make_python()
        python.run(code)
        pid = os.pidfd_open(python.pid)
        python._channel.shutdown(2)
        assert select.select([pid], [], [], 20)[0]
        os.close(pid)
