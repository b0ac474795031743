"""Cells of Python: what they keep, what they show, magics and programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kernels.conftest import MakePython
from tests.kernels.driver import Driver
from tests.kernels.pythons import Zygote, environment


def text(python: Driver, code: str) -> str:
    cell = python.run(code)
    assert cell.error is None, cell.error
    return str(cell.result["text"])


class TestBoth:
    def test_the_last_expression_is_shown_and_is_the_main_result(self, any_python: Driver) -> None:
        cell = any_python.run("x = 20\nx + 1\nx + 2")
        assert cell.result["text"] == "22"
        assert cell.result["main"]
        assert cell.all("done") == [{"type": "done", "executionCount": 1}]

    def test_variables_functions_and_classes_stay(self, any_python: Driver) -> None:
        any_python.run("import math\ndef area(r):\n    return round(math.pi * r * r, 2)")
        any_python.run("class A:\n    size = area(2)")
        assert text(any_python, "A.size") == "12.57"

    def test_none_and_assignments_show_nothing(self, any_python: Driver) -> None:
        assert any_python.run("None").results == []
        assert any_python.run("x = 1").results == []
        assert any_python.run("").results == []
        assert any_python.run(" \n\t").error is None

    def test_an_empty_cell_has_no_number(self, any_python: Driver) -> None:
        assert any_python.run("1").all("done")[0]["executionCount"] == 1
        assert any_python.run("").all("done")[0]["executionCount"] == 1
        assert any_python.run("1").all("done")[0]["executionCount"] == 2

    def test_the_underscore_is_the_last_result(self, any_python: Driver) -> None:
        any_python.run("6 * 7")
        assert text(any_python, "_ + 1") == "43"

    def test_main_is_a_module_of_its_own(self, any_python: Driver) -> None:
        code = """
import sys, pickle, dataclasses, typing
@dataclasses.dataclass
class Point:
    x: 'int'
    y: 'typing.List[int]' = dataclasses.field(default_factory=list)
def double(n: 'Point') -> 'int':
    return n.x * 2
module = sys.modules['__main__']
assert module.Point is Point and vars(module) is globals()
assert pickle.loads(pickle.dumps(Point(3))) == Point(3)
assert pickle.loads(pickle.dumps(double)) is double
assert typing.get_type_hints(double) == {'n': Point, 'return': int}
assert typing.get_type_hints(Point)['y'] == typing.List[int]
__name__, '__file__' in globals(), sys.argv
"""
        assert text(any_python, code) == "('__main__', False, [''])"

    def test_nothing_of_the_kernel_is_in_the_way_of_an_import(self, any_python: Driver, tmp_path: Path) -> None:
        (tmp_path / "sandcove.py").write_text("whose = 'mine'\n")
        assert text(any_python, "import sandcove\nsandcove.whose") == "'mine'"
        assert text(any_python, "import sys\n[m for m in sys.modules if m.startswith('sandcove.')]") == "[]"

    def test_variables_of_one_cell_are_taken_back(self, any_python: Driver) -> None:
        any_python.run("import os\nos.environ['KEPT'] = '1'\nos.environ['OLD'] = 'old'")
        cell = any_python.run(
            "print(os.environ['OLD'], os.environ['NEW'])\nos.environ['NEW'] += 'er'\nos.environ['KEPT'] = '2'\n1/0",
            env={"OLD": "now", "NEW": "n"},
        )
        assert cell.stdout == "now n\n"
        assert text(any_python, "[os.environ.get(n) for n in ('OLD', 'NEW', 'KEPT')]") == "['old', None, '2']"
        assert any_python.run("os.system('echo $OLD')", env={"OLD": "child"}).stdout == "child\n"

    def test_a_cell_has_no_standard_input(self, any_python: Driver) -> None:
        for code in ("input()", "input('name? ')", "import getpass\ngetpass.getpass()"):
            error = any_python.run(code).error
            assert error is not None
            assert error["ename"] == "EOFError"
            assert "no standard input" in error["evalue"]
            assert error["lineNumber"] == code.count("\n") + 1
        assert text(any_python, "import sys\nsys.stdin.read()") == "''"

    def test_a_debugger_does_not_wait_for_commands(self, any_python: Driver) -> None:
        any_python.run("def f():\n    breakpoint()\n    return 1\nf()", within=20)
        assert text(any_python, "1") == "1"

    def test_the_path_is_what_this_python_would_have(self, any_python: Driver, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("a = 5\n")
        assert text(any_python, "import mine\nmine.a") == "5"
        assert text(any_python, "import sys\nsys.path[0], any('zip' in p and 'proc' in p for p in sys.path)") == (
            "('', False)"
        )

    def test_a_module_that_is_written_a_moment_before_is_found(self, any_python: Driver) -> None:
        code = """
import importlib, os, sys
os.makedirs('late', exist_ok=True)
sys.path.insert(1, os.path.abspath('late'))
try:
    import m0
except ImportError:
    pass
for n in range(20):
    stat = os.stat('late')
    open(f'late/m{n}.py', 'w').write(f'n = {n}')
    os.utime('late', ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if within one tick of the clock
    assert importlib.import_module(f'm{n}').n == n
"""
        cell = any_python.run(code)
        assert cell.error is None, cell.error

    def test_future_statements_last(self, any_python: Driver) -> None:
        any_python.run("from __future__ import annotations")
        assert text(any_python, "def f(x: nowhere): pass\nf.__annotations__") == "{'x': 'nowhere'}"


class TestIPython:
    def test_in_and_out_hold_what_was(self, python: Driver) -> None:
        python.run("6 * 7")
        assert text(python, "In[1], Out[1], _1, _i1") == "('6 * 7', 42, 42, '6 * 7')"

    def test_a_semicolon_hides_the_value(self, python: Driver) -> None:
        assert python.run("1 + 1;").results == []
        assert python.run("'a;'").result["text"] == "'a;'"

    def test_line_magics(self, python: Driver, tmp_path: Path) -> None:
        assert "loop" in python.run("%timeit -n 1 -r 1 1 + 1").stdout
        assert "Wall time" in python.run("%time sum(range(10))").stdout
        (tmp_path / "below").mkdir()
        assert text(python, "%cd below\nimport os\nos.getcwd()") == repr(str(tmp_path / "below"))
        assert text(python, "%env HOME") == "'/nonexistent'"
        assert python.run("x = 5\n%who").stdout.split()[-1] == "x"
        assert python.run("%matplotlib inline").error is None
        assert python.run("%lsmagic").error is None

    def test_cell_magics(self, python: Driver, tmp_path: Path) -> None:
        assert python.run("%%writefile a.txt\none\ntwo").stdout == "Writing a.txt\n"
        assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"
        cell = python.run("%%bash\necho out\necho err >&2\nread x || echo no input")
        assert (cell.stdout, cell.stderr) == ("out\nno input\n", "err\n")
        python.run("%%capture kept\nprint('hidden')\n!echo program\ndisplay(1)")
        assert text(python, "kept.stdout, len(kept.outputs)") == "('hidden\\nprogram\\n', 1)"
        assert "Wall time" in python.run("%%time\nx = 1").stdout
        assert python.run("%%python\nprint(1 + 1)").stdout == "2\n"
        assert python.run("%%bash --out got\necho kept").stdout == ""
        assert text(python, "got") == "'kept\\n'"

    def test_a_failing_program_of_a_cell_magic_is_an_error(self, python: Driver) -> None:
        error = python.run("%%bash\nexit 3").error
        assert error is not None
        assert error["ename"] == "CalledProcessError"

    def test_programs_print_as_they_run(self, python: Driver) -> None:
        seen: list[str] = []

        def on_event(kind: str, value: object) -> None:
            if kind == "stdout" and not seen:
                seen.append(str(value))
                python.interrupt_tree()

        program = f"{sys.executable} -c \"import time; print('first', flush=True); time.sleep(50)\""
        cell = python.run(f"!exec {program}", on_event=on_event, within=20)
        assert seen == ["first\n"]
        assert cell.error is not None
        assert cell.error["ename"] == "KeyboardInterrupt"

    def test_programs_take_variables_and_give_lines(self, python: Driver) -> None:
        python.run("name = 'value of a variable'")
        assert python.run("!echo {name}; echo $name").stdout == "value of a variable\nvalue of a variable\n"
        assert text(python, "lines = !printf 'a\\nb\\n'\nlines") == "['a', 'b']"
        assert python.run("!exit 3").error is None
        assert text(python, "_exit_code") == "3"

    def test_a_program_reads_nothing(self, python: Driver) -> None:
        assert python.run("!cat; echo over", within=20).stdout == "over\n"
        assert text(python, "x = !cat\nx") == "[]"

    def test_pip_is_that_of_this_python(self, python: Driver) -> None:
        for code in ("!pip --version", "%pip --version"):
            assert sys.prefix in python.run(code).stdout, code

    def test_question_marks_show_what_is_known(self, python: Driver) -> None:
        python.run("def f():\n    'What it does.'")
        cell = python.run("f?")
        assert "What it does." in cell.result["text"]
        assert "return" not in python.run("?f").result["text"]

    def test_aliases_of_programs(self, python: Driver, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("text\n")
        assert python.run("cat a.txt").stdout == "text\n"

    def test_leading_blank_lines_do_not_shift_the_others(self, python: Driver) -> None:
        error = python.run("\n\n\nx = 1\n1/0").error
        assert error is not None
        assert error["lineNumber"] == 5

    def test_indented_and_pasted_code_runs(self, python: Driver) -> None:
        assert text(python, "    x = 3\n    x") == "3"
        assert text(python, ">>> x = 4\n>>> x") == "4"

    def test_events_and_transformers_of_the_users_are_called(self, python: Driver) -> None:
        python.run("""
import ast
seen = []
ip = get_ipython()
ip.events.register('pre_run_cell', lambda info: seen.append(info.raw_cell))
ip.events.register('post_run_cell', lambda result: seen.append(result.result))
class Double(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.copy_location(ast.Constant(node.value * 2), node) if node.value == 21 else node
ip.ast_transformers.append(Double())
""")
        assert text(python, "21") == "42"
        assert text(python, "seen[-3:]") == "['21', 42, 'seen[-3:]']"

    def test_every_expression_can_be_shown(self, python: Driver) -> None:
        python.run("get_ipython().ast_node_interactivity = 'all'")
        assert [result["text"] for result in python.run("1\n2\nx = 3\n4").results] == ["1", "2", "4"]
        python.run("get_ipython().ast_node_interactivity = 'last_expr_or_assign'")
        assert text(python, "x = 7") == "7"

    def test_run_and_load_ext(self, python: Driver, tmp_path: Path) -> None:
        (tmp_path / "program.py").write_text("import sys\nprint(__name__, sys.argv[1:])\nvalue = 9\n")
        assert python.run("%run program.py a b").stdout == "__main__ ['a', 'b']\n"
        assert text(python, "value") == "9"
        assert python.run("%load_ext autoreload\n%autoreload 2").error is None


def test_two_kernels_share_no_random_state(make_python: MakePython) -> None:
    code = "import random, numpy\nrandom.random(), numpy.random.rand()"
    first, second = (text(make_python(), code) for _ in range(2))
    assert first.split(",")[0] != second.split(",")[0]
    assert first.split(",")[1] != second.split(",")[1]


def test_the_environment_of_the_context_is_heeded(make_python: MakePython, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "extra.py").write_text("a = 1\n")
    python = make_python(env=environment(PYTHONPATH=str(tmp_path / "lib"), TZ="Asia/Tokyo", HOME=str(tmp_path)))
    assert text(python, "import extra\nextra.a") == "1"
    assert text(python, "import time\ntime.tzname[0], time.strftime('%z')") == "('JST', '+0900')"
    assert text(python, "import os\nos.path.expanduser('~')") == repr(str(tmp_path))


def test_a_kernel_finds_a_fresh_namespace(make_python: MakePython) -> None:
    python = make_python()
    hidden = "[n for n in globals() if not n.startswith('_')]"
    assert text(python, f"sorted({hidden})") == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit']"
    assert text(python, "import matplotlib.pyplot as plt\nplt.get_fignums()") == "[]"
    assert python.run("%history").stdout.startswith("sorted(")
    assert python.run("%whos").error is None


def test_the_warm_process_is_left_clean(zygote: Zygote) -> None:
    assert zygote.state["threads"] == 1
    assert zygote.state["leaked"] == []
    assert zygote.state["main"].endswith("zygote.py")


@pytest.mark.parametrize("module", ["numpy", "pandas", "matplotlib.pyplot", "asyncio", "multiprocessing"])
def test_the_libraries_are_there_at_once(python: Driver, module: str) -> None:
    assert text(python, f"import sys\n'{module}' in sys.modules") == "True"
