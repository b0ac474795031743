"""`await` in cells, tasks that go on between them, and code that has loops of its own."""

from __future__ import annotations

from tests.kernels.driver import Driver


def text(python: Driver, code: str) -> str:
    cell = python.run(code, within=20)
    assert cell.error is None, cell.error
    return str(cell.result["text"])


def test_await_at_top_level(any_python: Driver) -> None:
    assert text(any_python, "import asyncio\nasync def f(): return 5\nawait f()") == "5"
    assert text(any_python, "x = await asyncio.sleep(0, 6)\nx") == "6"
    assert text(any_python, "[await f() for _ in range(2)]") == "[5, 5]"
    code = "async with asyncio.timeout(5):\n    async for x in (n async for n in agen()):\n        pass\nx"
    any_python.run("async def agen():\n    for n in range(3):\n        yield n\n        await asyncio.sleep(0)")
    assert text(any_python, code) == "2"


def test_a_cell_without_await_has_no_running_loop(any_python: Driver) -> None:
    code = "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    return 7\nasyncio.run(main())"
    assert text(any_python, code) == "7"
    assert text(any_python, "await main()") == "7"
    assert text(any_python, code) == "7"
    assert text(any_python, "asyncio.get_event_loop().run_until_complete(main())") == "7"


def test_all_cells_have_the_same_loop(any_python: Driver) -> None:
    any_python.run("import asyncio\nloop = asyncio.get_event_loop()\nawait asyncio.sleep(0)\nlock = asyncio.Lock()")
    any_python.run("async with lock: first = asyncio.get_running_loop()")
    any_python.run("asyncio.run(asyncio.sleep(0))")
    any_python.run("async with lock: second = asyncio.get_running_loop()")
    assert text(any_python, "first is second") == "True"
    assert text(any_python, "asyncio.get_event_loop() is first") == "True"


def test_tasks_go_on_between_cells(any_python: Driver) -> None:
    code = """
import asyncio, os
done_read, done_write = os.pipe()
async def work():
    for n in range(5):
        await asyncio.sleep(0.001)
    print('worked')
    os.write(done_write, b'x')
task = asyncio.create_task(work())
await asyncio.sleep(0)
"""
    any_python.run(code)
    # These cells do not run the loop: the task can only go on while the kernel is idle.
    while text(any_python, "task.done()") == "False":
        pass
    assert text(any_python, "os.read(done_read, 1)") == "b'x'"


def test_a_task_made_in_a_cell_without_await_runs_too(any_python: Driver) -> None:
    any_python.run("import asyncio, os\nr, w = os.pipe()")
    any_python.run("async def work():\n    await asyncio.sleep(0)\n    os.write(w, b'y')")
    any_python.run("task = asyncio.get_event_loop().create_task(work())")
    while text(any_python, "task.done()") == "False":
        pass
    assert text(any_python, "os.read(r, 1)") == "b'y'"


def test_a_server_of_a_cell_answers_a_client_of_a_later_one(any_python: Driver) -> None:
    any_python.run("""
import asyncio
async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()
server = await asyncio.start_server(serve, '127.0.0.1', 0)
port = server.sockets[0].getsockname()[1]
""")
    any_python.run("print('idle')")
    code = """
reader, writer = await asyncio.open_connection('127.0.0.1', port)
writer.write(b'hello\\n')
await reader.readline()
"""
    assert text(any_python, code) == "b'HELLO\\n'"
    # Between cells too: the client is a process of its own.
    any_python.run("""
import subprocess, sys
client = subprocess.Popen([sys.executable, '-c', '''
import socket
with socket.create_connection((\"127.0.0.1\", %d), 20) as s:
    s.sendall(b\"late\\\\n\")
    print(s.recv(100).decode(), flush=True)
''' % port], stdout=subprocess.PIPE)
""")
    while text(any_python, "str(client.poll())") == "'None'":
        pass
    assert text(any_python, "client.stdout.read()") == "b'LATE\\n\\n'"


def test_a_task_that_fails_says_so(any_python: Driver) -> None:
    any_python.run("import asyncio\nasync def bad():\n    raise ValueError('in a task')")
    cell = any_python.run("kept = asyncio.create_task(bad())\nawait asyncio.sleep(0.01)")
    assert "ValueError: in a task" in cell.stderr
    cell = any_python.run("t = asyncio.create_task(bad())\ntry:\n    await t\nexcept ValueError: pass")
    assert cell.stderr == ""
    any_python.run("async def later():\n    await asyncio.sleep(0.005)\n    raise ValueError('between cells')")
    any_python.run("kept = asyncio.create_task(later())\nawait asyncio.sleep(0)")
    seen = ""
    while "between cells" not in seen:
        seen += any_python.run("1").stderr


def test_sys_exit_in_a_task_does_not_end_the_kernel(any_python: Driver) -> None:
    any_python.run("import asyncio, sys\nasync def quit():\n    await asyncio.sleep(0.001)\n    sys.exit(3)")
    any_python.run("task = asyncio.create_task(quit())\nawait asyncio.sleep(0)")
    while text(any_python, "task.done()") == "False":
        pass
    assert text(any_python, "await asyncio.sleep(0, 4)") == "4"


def test_a_closed_loop_is_replaced(any_python: Driver) -> None:
    any_python.run("import asyncio\nawait asyncio.sleep(0)")
    any_python.run("asyncio.get_event_loop().close()")
    assert text(any_python, "await asyncio.sleep(0, 5)") == "5"


def test_asyncio_programs(any_python: Driver) -> None:
    code = """
import asyncio
p = await asyncio.create_subprocess_exec('echo', 'hi', stdout=asyncio.subprocess.PIPE)
(await p.communicate())[0], p.returncode
"""
    assert text(any_python, code) == "(b'hi\\n', 0)"
    assert text(any_python, "await asyncio.to_thread(sum, [1, 2])") == "3"


def test_a_display_of_a_task_between_cells_comes_with_the_next(any_python: Driver) -> None:
    code = """
import asyncio
async def show():
    await asyncio.sleep(0)
    display('later')
task = asyncio.create_task(show())
"""
    any_python.run("import asyncio\nawait asyncio.sleep(0)")
    cell = any_python.run(code + "await asyncio.sleep(0)")
    found = list(cell.results)
    while not found:
        found += any_python.run("x = 1").results
    assert found[0]["text"] == "'later'"
