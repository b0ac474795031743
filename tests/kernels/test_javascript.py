"""What a kernel makes of JavaScript, on Bun and on Node, and of TypeScript on Bun."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandcove.kernels.messages import messages
from tests.kernels.driver import Cell, Driver
from tests.kernels.scripts import KINDS, NODE, script

needs_node = pytest.mark.skipif(NODE is None, reason="there is no node on this machine")
PARAMETERS = [pytest.param(kind, marks=needs_node if kind.startswith("node") else ()) for kind in KINDS]


@pytest.fixture(scope="module", params=PARAMETERS)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """One of each kind for all tests here: they leave no state that matters."""
    folder = tmp_path_factory.mktemp("cells")
    with script(request.param, folder) as made:
        made.folder = folder  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def folder(kernel: Driver) -> Path:
    return kernel.folder  # type: ignore[attr-defined,no-any-return]


def value(kernel: Driver, code: str) -> str:
    cell = kernel.run(code)
    assert cell.error is None, cell.error
    return str(cell.result["text"])


def test_declarations_outlive_their_cell_and_may_be_made_again(kernel: Driver) -> None:
    assert kernel.run("const a = 1; let b = 2; var c = 3; class K { n = 4 }; function f() { return 5 }").results == []
    assert value(kernel, "[a, b, c, new K().n, f()].join()") == "'1,2,3,4,5'"
    assert kernel.run("const b = 20; let a = 10; class K { n = 40 }").results == []
    assert value(kernel, "[a, b, new K().n].join()") == "'10,20,40'"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1 + 1", "2"),
        ("'text'", "'text'"),
        ("null", "null"),
        ("({ a: 1 })", "{ a: 1 }"),
        ("{ a: 1 }", "{ a: 1 }"),
        ("10n ** 20n", "100000000000000000000n"),
        ("new Map([[1, 2]])", "Map(1) { 1 => 2 }"),
        ("Symbol('s')", "Symbol(s)"),
        ("NaN", "NaN"),
        ("-0", "-0"),
        ("await Promise.resolve(7)", "7"),
        ("Promise.resolve(7)", "7"),
        ("new Promise(go => setTimeout(go, 5, 'late'))", "'late'"),
        ("async function answer() { return 42 }; answer()", "42"),
        ("({ then(go) { go(5) } })", "{ then: [Function: then] }"),
        ("const { p, ...q } = { p: 1, r: 2 }; q", "{ r: 2 }"),
        ("[new Error('x') instanceof Error, [] instanceof Array].join()", "'true,true'"),
        ("const self = {}; self.self = self; self", "<ref *1> { self: [Circular *1] }"),
        ("typeof require + typeof module + typeof __dirname", "'functionobjectstring'"),
    ],
)
def test_the_value_of_the_last_expression_is_shown(kernel: Driver, code: str, text: str) -> None:
    cell = kernel.run(code)
    assert cell.error is None
    assert cell.result["text"] == text
    assert cell.result["main"] is True


@pytest.mark.parametrize(
    "code",
    [
        "",
        "undefined",
        "let x = 3",
        "const y = await Promise.resolve(1)",
        "function g() {}",
        "class Q {}",
        "// nothing",
        "var v1 = 1, v2 = 2",
        "const [d1] = [1]",
        "const { e1, ...e2 } = { e1: 1 }",
        "import 'node:os'",
        "import os from 'os'",
        "for (const i of [1]) { i }",
    ],
)
def test_what_only_declares_shows_nothing(kernel: Driver, code: str) -> None:
    if code.startswith("for") and kernel.ready["version"].startswith("Node"):
        pytest.skip("Node shows what a statement ends with")
    cell = kernel.run(code)
    assert (cell.error, cell.results) == (None, [])


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("({ a: [1, { b: null }] })", {"a": [1, {"b": None}]}),
        ("[1, NaN, Infinity]", [1, None, None]),
        ("[new Date(0)]", ["1970-01-01T00:00:00.000Z"]),
        ("({ n: 10n })", None),
        ("({ get x() { throw 1 } })", None),
        ("new Map()", None),
        ("(() => 1)", None),
    ],
)
def test_plain_values_are_json_too(kernel: Driver, code: str, value: Any) -> None:
    cell = kernel.run(code)
    assert cell.error is None
    assert cell.result.get("json") == value


@pytest.mark.parametrize(
    "code",
    [
        "new Proxy({}, { get() { throw new Error('trap') }, ownKeys() { throw new Error('trap') } })",
        "({ [Symbol.for('nodejs.util.inspect.custom')]() { throw new Error('inspect') } })",
        "({ toJSON() { throw new Error('json') } })",
        "throw new Proxy(new Error('x'), { getPrototypeOf() { throw 1 }, get() { throw 2 } })",
        "throw Object.defineProperty(new SyntaxError('x'), 'stack', { get() { throw 1 } })",
        "new Proxy({}, { getPrototypeOf() { throw 1 }, get() { throw 2 } })",
        "new Array(2 ** 32 - 1)",
        "Object.create(null)",
        "new Array(1e7)",
        "'x'.repeat(1e7)",
        "(() => { let deep = {}; for (let i = 0; i < 1e5; i++) deep = { deep }; return deep })()",
    ],
)
def test_no_value_breaks_the_kernel(kernel: Driver, code: str) -> None:
    cell = kernel.run(code)
    assert cell.results or cell.error
    assert value(kernel, "1 + 1") == "2"


@pytest.mark.parametrize(
    "code", ["'\\ud800'", "({ a: '\\udfff' })", "throw new Error('\\ud800')", "display.html('\\udbff'); '\\\\ud800'"]
)
def test_half_a_character_is_none_on_the_wire(kernel: Driver, code: str) -> None:
    for _, event in kernel.run(code).events:
        messages.decode(json.dumps(event))


def test_an_interrupt_ends_what_shows_a_value(kernel: Driver) -> None:
    code = "({ toJSON() { console.log('go'); for (;;); } })"
    cell = kernel.run(code, on_event=lambda kind, _: kernel.interrupt() if kind == "stdout" else None)
    assert cell.error is not None
    assert cell.error["ename"] == "InterruptedError"
    assert value(kernel, "1 + 1") == "2"


def test_a_promise_that_fails_is_the_cell_s_error_alone(kernel: Driver) -> None:
    cell = kernel.run("Promise.reject(new Error('rejected'))")
    assert cell.error is not None
    assert (cell.error["evalue"], cell.error["lineNumber"], cell.stderr) == ("rejected", 1, ""), cell.error
    assert kernel.run("1").stderr == ""


def test_an_error_that_garbage_collection_met_has_its_lines(kernel: Driver) -> None:
    """Bun writes the stack of an error by itself when a function on it is gone."""
    lines = [
        "let lost = () => new Error('kept')",
        "let kept = lost(); lost = 0",
        "globalThis.Bun?.gc(true)",
        "throw kept",
    ]
    cell = kernel.run("\n".join(lines))
    assert cell.error is not None
    assert cell.error["lineNumber"] == 1, cell.error
    first = cell.error["traceback"][1].strip()
    assert first.startswith("at lost (cell ") and first.endswith(":1)"), cell.error


def test_what_is_too_large_says_so(kernel: Driver) -> None:
    cell = kernel.run("display.html('x'.repeat(17 * 1024 * 1024))")
    assert "too large to show" in cell.result["text"]


def test_displays(kernel: Driver) -> None:
    cell = kernel.run(
        "display(1, { id: 'd' }); display.update('d', 2); display.html('<b>é</b>'); display.markdown('*m*');"
        "display.mime({ 'text/latex': '$x$', 'image/svg+xml': '<svg/>', 'x/y': 'z' });"
        "display(new Uint8Array([0x89, 0x50, 0x4e, 0x47])); display.plotly({ data: [] });"
        "display({ $schema: 'https://vega.github.io/schema/vega-lite/v5.json' });"
        "display({ type: 'FeatureCollection', features: [] }); undefined"
    )
    assert cell.error is None, cell.error
    shown = [{name: each for name, each in result.items() if name != "type"} for result in cell.results]
    assert shown[:5] == [
        {"text": "1", "displayId": "d"},
        {"text": "2", "displayId": "d", "update": True},
        {"html": "<b>é</b>"},
        {"markdown": "*m*"},
        {"latex": "$x$", "svg": "<svg/>", "data": {"x/y": "z"}},
    ]
    assert shown[5]["png"] == "iVBORw=="
    assert shown[6] == {"plotly": {"data": []}}
    assert "vegaLite" in shown[7]
    assert "geojson" in shown[8]
    assert kernel.run("display.clear({ wait: true })").all("clear_output") == [{"type": "clear_output", "wait": True}]


def test_output_is_in_order_with_results(kernel: Driver) -> None:
    cell = kernel.run(
        "for (let i = 0; i < 20; i++) { console.log('out', i); console.error('err', i);"
        " process.stdout.write(`raw ${i}\\n`); display(i) }"
    )
    seen: list[str] = []
    for kind, each in cell.events[:-1]:
        seen += each["text"].split() if kind == "result" else each.split("\n")
    expected = [word for i in range(20) for word in (f"out {i}", f"err {i}", f"raw {i}", str(i))]
    assert [word for word in seen if word] == expected


def test_the_console(kernel: Driver) -> None:
    cell = kernel.run(
        "console.group('g'); console.info('in'); console.groupEnd(); console.table([{ a: 1 }]); console.count();"
        "console.assert(false, 'no'); console.dir({ x: 1 }); console.log('%s is %d', 'it', 4)"
    )
    assert "g\n  in\n" in cell.stdout
    assert "│" in cell.stdout and "default: 1" in cell.stdout and "it is 4" in cell.stdout
    assert "Assertion failed: no" in cell.stderr


def test_children_print_and_have_no_descriptor_of_the_kernel_s(kernel: Driver) -> None:
    cell = kernel.run(
        "const { execSync } = require('child_process');"
        "execSync('echo child; ls -l /proc/self/fd', { stdio: 'inherit' }); undefined"
    )
    assert cell.stdout.startswith("child\n")
    links = dict(line.split()[-3::2] for line in cell.stdout.splitlines() if "->" in line)
    # 3 is the folder that `ls` reads. Others of this machine's may have passed through from the tests' own.
    assert {"4", "5"}.isdisjoint(links)
    assert not [target for target in links.values() if "socket" in target or "memfd" in target]


def test_children_print_more_than_a_pipe_takes(kernel: Driver) -> None:
    cell = kernel.run(
        "require('child_process').execSync('yes | head -c 3000000; echo e >&2', { stdio: 'inherit' }); console.log('!')"
    )
    assert cell.stdout == "y\n" * 1_500_000 + "!\n"
    assert cell.stderr == "e\n"


def test_modules(kernel: Driver, folder: Path) -> None:
    package = folder / "node_modules" / "late"
    package.mkdir(parents=True, exist_ok=True)
    (package / "package.json").write_text(json.dumps({"name": "late", "main": "index.js"}))
    (package / "index.js").write_text("exports.answer = 42; exports.default = 'd'")
    (folder / "own.mjs").write_text("export const own = 'mine'; export default 'standard'")
    (folder / "data.json").write_text('{"x": 1}')
    assert value(kernel, "import { answer as a1 } from 'late'; a1") == "42"
    assert value(kernel, "import * as all from './own.mjs'; all.own") == "'mine'"
    assert value(kernel, "import standard, { own } from './own.mjs';\nstandard + own") == "'standardmine'"
    assert value(kernel, "(await import('./own.mjs')).default") == "'standard'"
    assert value(kernel, "require('./data.json').x + require('late').answer") == "43"
    assert value(kernel, "import {\n  readFileSync,\n} from 'node:fs';\ntypeof readFileSync") == "'function'"
    assert value(kernel, "const text = `import('x')`; text") == "\"import('x')\"" or NODE
    error = kernel.run("import nothing from 'not-there'").error
    assert error is not None
    assert "Cannot find package 'not-there'" in error["evalue"]


@pytest.mark.parametrize(
    "how", ["require('{}').answer", "(await import('{}')).answer", "import * as all from '{}'; all.answer"]
)
@pytest.mark.parametrize("name", ["installed", "@scope/installed"])
def test_a_package_is_found_once_it_is_there(kernel: Driver, folder: Path, how: str, name: str) -> None:
    name += str(len(how))
    for each in ("there-before", name):
        if each == name:
            assert kernel.run(how.format(name)).error is not None
        package = folder / "node_modules" / each
        package.mkdir(parents=True, exist_ok=True)
        (package / "index.js").write_text("exports.answer = 42")
        (package / "package.json").write_text(json.dumps({"name": each, "main": "index.js"}))
        assert value(kernel, how.format(each)) == "42"


def test_a_cell_may_overwrite_what_the_kernel_uses(kernel: Driver) -> None:
    with script(_kind(kernel), Path("/tmp")) as own:
        for code in (
            "Object.prototype.x = 1; Array.prototype.map = null; JSON.stringify = null; JSON.parse = null",
            "globalThis.Promise = globalThis.Error = globalThis.Buffer = globalThis.setImmediate = null",
            "globalThis.console = globalThis.process = globalThis.JSON = globalThis.Object = globalThis.Symbol = null",
        ):
            cell = own.run(f"{code}; undefined")
            assert (cell.error, cell.results) == (None, [])
            assert own.run("[1, 2]").result["json"] == [1, 2]
            assert value(own, "await 5") == "5"
            error = own.run("undefined.x").error
            assert error is not None
            assert error["ename"] == "TypeError"


def _kind(kernel: Driver) -> str:
    return f"{kernel.ready['version'].split()[0].casefold()} javascript"


@pytest.mark.parametrize(
    ("code", "name", "message", "line"),
    [
        ("throw new Error('boom')", "Error", "boom", 1),
        ("\n\nthrow new TypeError('t')", "TypeError", "t", 3),
        ("const unused = 1;\n\nfunction f() {\n  missing();\n}\nf()", "ReferenceError", None, 4),
        ("const o = {\n  a: 1,\n};\nawait Promise.resolve();\no.b.c", "TypeError", None, 5),
        ("let q = ;", "SyntaxError", None, 1),
        ("\n\nlet z = 1;\nlet w = ;", "SyntaxError", None, 4),
        ("throw 'text'", "Uncaught", "text", None),
        ("throw undefined", "Uncaught", "undefined", None),
        ("class Own extends Error {}\nthrow new Own('mine')", "Own", "mine", 2),
        ("throw new Error('outer', { cause: new Error('inner') })", "Error", "outer", 1),
    ],
)
def test_errors(kernel: Driver, code: str, name: str, message: str | None, line: int | None) -> None:
    cell = kernel.run(code)
    assert cell.error is not None
    assert cell.error["ename"] == name
    assert cell.error["lineNumber"] == line
    if message is not None:
        assert cell.error["evalue"] == message
    trace = "\n".join(cell.error["traceback"])
    assert "[eval" not in trace and "%5Beval" not in trace and "node:" not in trace
    if "inner" in code:
        assert "[cause]: Error: inner" in trace
    assert value(kernel, "1 + 1") == "2"


def test_an_error_names_the_lines_of_the_cell_that_it_comes_from(kernel: Driver) -> None:
    count = kernel.run("// a comment\nfunction earlier() {\n\n  throw new Error('from before')\n}").events[-1][1]
    cell = kernel.run("\nearlier()")
    assert cell.error is not None
    own = count["executionCount"]
    assert f"    at earlier (cell {own}:4)" in cell.error["traceback"]
    assert cell.error["lineNumber"] == 2


def test_what_nobody_catches_is_told_and_ends_no_kernel(kernel: Driver) -> None:
    later = "await new Promise(go => setTimeout(go, 30))"
    cell = kernel.run(
        f"setTimeout(() => {{ throw new Error('timer') }}, 1); Promise.reject(new Error('floating')); {later}"
    )
    assert "Uncaught Error: timer" in cell.stderr
    assert "Uncaught (in promise) Error: floating" in cell.stderr
    assert value(kernel, "1 + 1") == "2"


def test_what_waits_goes_on_between_cells(kernel: Driver) -> None:
    kernel.run("let ticks = 0; const ticking = setInterval(() => ticks++, 1)")
    while value(kernel, "ticks > 3") == "false":
        pass
    kernel.run("clearInterval(ticking)")


def test_a_server_in_a_cell_answers(kernel: Driver) -> None:
    assert not kernel.run(
        "const server = require('http').createServer((_, answer) => answer.end('served'));"
        "await new Promise(go => server.listen(0, '127.0.0.1', go))"
    ).error
    assert value(kernel, "await (await fetch(`http://127.0.0.1:${server.address().port}`)).text()") == "'served'"
    kernel.run("server.close()")


@pytest.mark.parametrize(
    "code",
    ["console.log('go'); while (true) {}", "console.log('go'); await new Promise(() => {})",
     "console.log('go'); await new Promise(go => setTimeout(go, 1e6))",
     "await null; console.log('go'); while (true) {}",
     "await new Promise(go => setTimeout(go, 10)); console.log('go'); while (true) {}",
     "await require('fs').promises.readFile('/dev/null'); console.log('go'); for (;;) { try { for (;;); } catch {} }",
     "await new Promise(go => setTimeout(go, 10)); console.log('go'); while (true) await null"],
)  # fmt: skip
def test_an_interrupt_ends_the_cell_and_keeps_the_variables(kernel: Driver, code: str) -> None:
    kernel.run("let kept = 'kept'")

    def interrupt(kind: str, _: Any) -> None:
        if kind == "stdout":
            # The agent waits too until the cell has begun.
            threading.Timer(0.05, kernel.interrupt).start()

    cell = kernel.run(code, on_event=interrupt)
    assert cell.error is not None
    assert cell.error["ename"] == "InterruptedError"
    assert value(kernel, "kept") == "'kept'"
    assert value(kernel, "await new Promise(go => setTimeout(go, 1, 'later'))") == "'later'"


def test_an_interrupt_between_cells_does_nothing(kernel: Driver) -> None:
    value(kernel, "1")
    kernel.interrupt()
    assert value(kernel, "1 + 1") == "2"


def test_variables_of_the_environment_for_one_cell(kernel: Driver) -> None:
    assert kernel.run("process.env.ONE", env={"ONE": "1"}).result["text"] == "'1'"
    assert value(kernel, "String(process.env.ONE)") == "'undefined'"


def test_there_is_no_standard_input(kernel: Driver) -> None:
    assert value(kernel, "prompt('name?') === null") == "true"
    assert value(kernel, "require('fs').readFileSync(0, 'utf8')") == "''"


def test_the_kernel_s_own_prints_outlive_a_closed_descriptor(kernel: Driver) -> None:
    kind = f"{kernel.ready['version'].split()[0].casefold()} javascript"
    with script(kind, Path("/tmp")) as own:
        own.run("require('fs').closeSync(1); require('fs').closeSync(2)")
        cell = own.run("console.log('still'); console.error('here')")
        assert (cell.stdout, cell.stderr) == ("still\n", "here\n")


def test_a_copy_is_refused(kernel: Driver) -> None:
    with pytest.raises(RuntimeError, match="only Python contexts"):
        kernel.fork()


def test_ten_megabytes_of_lines_and_of_code(kernel: Driver) -> None:
    cell = kernel.run("for (let i = 0; i < 100_000; i++) console.log('x'.repeat(99))")
    assert cell.stdout == ("x" * 99 + "\n") * 100_000
    assert kernel.run(f"/* {'c' * 10_000_000} */ 'long'").result["text"] == "'long'"


@pytest.mark.parametrize(
    ("code", "status"), [("process.exit(3)", 3), ("await null; process.exit(3)", 3), ("process.abort()", None)]
)
def test_a_cell_that_ends_the_process(kernel: Driver, code: str, status: int | None) -> None:
    kind = f"{kernel.ready['version'].split()[0].casefold()} javascript"
    with script(kind, Path("/tmp")) as own:
        printed: list[str] = []
        with pytest.raises(EOFError):
            own.run(f"console.log('last words'); {code}", on_event=lambda kind, text: printed.append(text))
        assert "".join(map(str, printed)).startswith("last words\n")
        ended = os.waitstatus_to_exitcode(os.waitpid(own.pid, 0)[1])
        assert ended == status if status is not None else ended < 0


def test_typescript(tmp_path: Path) -> None:
    with script("bun typescript", tmp_path) as kernel:
        assert value(kernel, "enum Size { Small, Large }\nconst size: Size = Size.Large; Size[size]") == "'Large'"
        assert value(kernel, "Size.Small") == "0"
        assert kernel.run("enum Only { A }").results == []
        assert kernel.run("interface I { a: number }\ntype T = I | string").results == []
        assert (
            value(
                kernel, "class P { constructor(private readonly n: number) {} get m() { return this.n } }\nnew P(3).m"
            )
            == "3"
        )
        assert value(kernel, "namespace N { export const x = 1 }\nN.x") == "1"
        assert value(kernel, "const f = <X,>(x: X): X => x; f<number>(5) satisfies number") == "5"
        decorated = (
            "function twice(value: any, _: ClassMethodDecoratorContext) {\n"
            "  return function (this: any) { return 2 * value.call(this) }\n}\n"
            "class D {\n  @twice\n  m() { return 21 }\n}\nnew D().m()"
        )
        assert value(kernel, decorated) == "42"
        (tmp_path / "typed.ts").write_text("export const answer: number = 42")
        assert value(kernel, "import { answer } from './typed.ts'; import type { X } from './none'; answer") == "42"


@pytest.mark.parametrize(
    "before",
    [
        "interface Wide {\n  a: number;\n  b: string;\n}",
        "enum Color {\n  Red,\n  Green,\n}",
        "type Long =\n  | 'a'\n  | 'b';\nlet typed: Long = 'a';",
        "function typed(\n  a: number,\n  b: string,\n): Array<\n  string\n> {\n  return [];\n}",
        "// a comment\n\n/* and\nanother */",
        "const text = `\nlines\nin a text\n`;",
    ],
)
def test_an_error_in_typescript_is_on_the_user_s_own_line(before: str, tmp_path: Path) -> None:
    with script("bun typescript", tmp_path) as kernel:
        lines = before.count("\n") + 1
        cell: Cell = kernel.run(f"{before}\nconst thing: any = null;\nthing.property.other")
        assert cell.error is not None
        assert cell.error["lineNumber"] == lines + 2
        broken = kernel.run(f"{before}\nconst y: number = ;")
        assert broken.error is not None
        assert (broken.error["ename"], broken.error["lineNumber"]) == ("SyntaxError", lines + 1)
