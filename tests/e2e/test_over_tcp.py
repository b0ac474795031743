"""`SANDCOVE_URL` and `SANDCOVE_API_KEY` move any script unchanged: tests of each topic of the SDK, run over TCP.

All of them are run so by ``scripts/test --over-tcp``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = {
    "client/test_commands.py": [
        "test_a_result_has_all_of_it",
        "test_a_streams_timeout_is_raised_after_the_output",
        "test_leaving_a_loop_cancels_the_command",
    ],
    "client/test_files.py": ["test_bytes_there_and_back", "test_a_folder_there_and_back"],
    "client/test_processes.py": ["test_a_process_from_start_to_end", "test_wait_for_port", "test_callbacks"],
    "client/test_stdin.py": [
        "test_every_size_arrives_as_it_is",
        "test_nothing_is_left_when_the_command_ends_otherwise",
    ],
    "client/test_git.py": ["test_a_clone"],
    "client/test_code.py": ["test_a_context_from_first_to_last", "test_a_stream_that_is_left_interrupts_the_cell"],
    "client/test_hooks.py": ["test_around_exec"],
    "client/test_life.py": ["test_the_end_of_a_block_destroys_an_anonymous_sandbox"],
    "agent/test_sessions.py": ["test_state_outlasts_sleep", "test_state_outlasts_a_kill_of_the_agent"],
    "previews/test_fetch.py": ["test_requests_and_answers"],
    "previews/test_ports.py": ["test_a_port_is_exposed_and_taken_back"],
}


@pytest.mark.timeout(300)
def test_some_of_each_topic(capable: None, tmp_path: Path) -> None:
    named = [f"tests/{file}::{name}" for file, names in TESTS.items() for name in names]
    line = [sys.executable, "-m", "pytest", "-q", "--over-tcp", f"--basetemp={tmp_path / 'nested'}", *named]
    done = subprocess.run(line, check=False, cwd=ROOT, capture_output=True, text=True)
    # Every one of them passed: none was skipped, for one.
    assert re.fullmatch(r"\d+ passed in .+", done.stdout.splitlines()[-1]), done.stdout + done.stderr
