"""A session survives whatever a command does to its shell, and keeps its state."""

from __future__ import annotations

import pytest

from sandcove import ExecutionTimeoutError, Session

SET_UP = """
cd /tmp
export EXPORTED='1 "a" $b'
plain=2
list=(x 'y z')
declare -A table=([k]=v)
fn() { echo "fn $1"; }
alias al='echo alias'
shopt -s extglob
set -o pipefail
"""
ASK = """echo "$PWD|$EXPORTED|$plain|${list[1]}|${table[k]}"; fn 1; al; shopt -q extglob && [ -o pipefail ] && echo set
echo err >&2"""
ANSWER = '/tmp|1 "a" $b|2|y z|v\nfn 1\nalias\nset\n'


@pytest.fixture
def prepared(session: Session) -> Session:
    session.exec(SET_UP, check=True)
    return session


def test_state_is_kept_between_commands(prepared: Session) -> None:
    for _ in range(3):
        result = prepared.exec(ASK)
        assert (result.stdout, result.stderr, result.exit_code) == (ANSWER, "err\n", 0)


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [
        ("exit 3", 3),
        ("exit", 0),
        ("exit 300", 44),
        ("exit abc", 2),
        ("set -e; false", 1),
        ("set -e; false; echo not reached", 1),
        ("set -e", 0),
        ("set -eu; echo $undefined", 1),
        ("set -u; echo $undefined", 1),
        ("exec true", 0),
        ("exec sleep 0", 0),
        ("exec sh -c 'exit 7'", 7),
        ("exec /no/such/program", 127),
        ("shopt -s execfail; exec /no/such/program", 127),
        ("echo 'unterminated", 2),
        ('echo "unterminated', 2),
        ("echo $(", 2),
        ("echo `", 2),
        ("if true; then", 2),
        ("}", 2),
        ("trailing() { :; }; trailing \\", 0),
        ("cat <<END\nno end", 0),
        ("cat", 0),
        ("read line", 1),
        ("while read line; do :; done", 0),
        ("bash", 0),
        ("break", 0),
        ("continue 2", 0),
        ("return 5", 2),
        ("kill -9 $$", 137),
        ("kill $$", 143),
        ("kill -HUP $$", 129),
        ("kill -PIPE $$", 141),
        ("kill -9 -1; true", 0),
        ("(exit 9)", 9),
        ("false | true", 1),
        ("no-such-command", 127),
        ("/tmp", 126),
        ("suspend", 1),
        ("logout", 1),
        ("bg; fg; jobs; disown -a; wait; hash -r; true", 0),
        ("set -C", 0),
        ("set -a", 0),
        ("set -f", 0),
        ("set -k", 0),
        ("set -m", 0),
        ("set -o posix", 0),
        ("set -T -E; set +B; set -h", 0),
        ("set -b; set -P", 0),
        ("IFS=", 0),
        ("IFS=0123456789", 0),
        ("IFS=/; true", 0),
        ("unset IFS", 0),
        ("trap 'echo bye' EXIT", 0),
        ("trap 'exit 9' ERR", 0),
        ("trap 'echo gone' RETURN", 0),
        ("trap '' TERM INT HUP PIPE CHLD", 0),
        ("exec >/tmp/elsewhere; echo there", 0),
        ("exec 2>&-", 0),
        ("exec 1>&- 0<&-", 0),
        ("exec >&- 2>&-; echo lost", 1),
        ("exec 3>/tmp/three 4<&0 5>&1; echo x >&3", 0),
        ("exec 200>/tmp/lock; flock -n 200", 0),
        ("(flock -n 200 || exit 1; echo held) 200>/tmp/lock2", 0),
        ("umask 777", 0),
        ("ulimit -f 0", 0),
        ("ulimit -u 1; true", 0),
        ("huge=$(head -c 3000000 /dev/zero | tr '\\0' x); [ ${#huge} = 3000000 ]", 0),
        ("export huge=$(head -c 100000 /dev/zero | tr '\\0' x); env | grep -c huge >/dev/null", 0),
        ("export huge=$(head -c 3000000 /dev/zero | tr '\\0' x)", 0),
        ("PATH=", 0),
        ("unset PATH HOME", 0),
        ("BASH_ENV=/nowhere ENV=/nowhere PROMPT_COMMAND='exit 1' PS1='$(exit 1)'", 0),
        ("TMOUT=1", 0),
        ("HISTFILE=/x; set -o history", 0),
        ("LC_ALL=tr_TR.UTF-8 LANG=xx_YY", 0),
        ("SHELLOPTS=1", 1),
        ("BASHOPTS=1", 1),
        ("readonly PWD", 0),
        ("readonly constant=1; exit 4", 4),
        ("shopt -s nullglob failglob nocasematch nocaseglob globstar lastpipe dotglob", 0),
        ("shopt -s extdebug compat31", 0),
        ("set -- a b c; shift; OPTIND=5", 0),
        ("coproc cat; true", 0),
        ("sleep 0.3 & disown", 0),
        ("mkdir -p $'/tmp/a\\nb'; cd $'/tmp/a\\nb'; cd /tmp", 0),
    ],
)
def test_state_survives(prepared: Session, command: str, exit_code: int) -> None:
    assert prepared.exec(command, timeout=20).exit_code == exit_code
    changed = {"IFS=0123456789", "IFS=/; true", "IFS="}  # the question itself must not be split by them
    result = prepared.exec("unset IFS; " * (command in changed) + ASK, timeout=20)
    assert (result.stdout, result.stderr) == (ANSWER, "err\n")


@pytest.mark.parametrize("name", ["read", "eval", "printf", "exec", "cd", "source", "set", "trap", "_sandcove"])
@pytest.mark.parametrize("kind", ["function", "alias"])
def test_names_of_the_shell_s_own_commands_may_be_taken(prepared: Session, name: str, kind: str) -> None:
    define = f"{name}() {{ echo hijacked; }}" if kind == "function" else f"alias {name}='echo hijacked'"
    prepared.exec(define)
    for _ in range(2):
        result = prepared.exec(ASK, timeout=20)
        assert (result.stdout, result.stderr, result.exit_code) == (ANSWER, "err\n", 0)
        prepared.exec("kill -9 $$")
    assert prepared.exec(f"{name} 2>/dev/null").stdout == "hijacked\n" or name == "_sandcove"


@pytest.mark.parametrize(
    "command",
    [
        "builtin() { :; }",
        "enable -n builtin",
        "enable -n printf eval read declare",
        "set -n",
        "set -t",
        "ulimit -n 20",
        'for n in {3..255}; do eval "exec $n>&-"; done',
    ],
)
def test_a_shell_that_can_no_longer_answer_is_replaced(prepared: Session, command: str) -> None:
    prepared.exec(command, timeout=20)
    prepared.exec("true", timeout=20)
    result = prepared.exec(ASK, timeout=20)
    assert (result.stdout, result.stderr, result.exit_code) == (ANSWER, "err\n", 0)


def test_traces_and_traps_go_on_in_what_follows(session: Session) -> None:
    session.exec("set -x")
    result = session.exec("echo a")
    assert result.stdout == "a\n" and result.stderr.strip("+ ") == "echo a\n"
    session.exec("set +x; trap 'echo debug' DEBUG")
    assert session.exec("echo b").stdout == "debug\nb\n"
    session.exec("trap - DEBUG; trap 'echo wrong' ERR")
    assert session.exec("false").stdout == "wrong\n"


def test_a_trap_on_exit_runs_when_the_shell_exits(session: Session) -> None:
    session.exec("trap 'echo bye' EXIT; kept=1")
    assert session.exec("echo one").stdout == "one\n"
    result = session.exec("exit 2")
    assert (result.stdout, result.exit_code) == ("bye\n", 2)
    assert session.exec("echo $kept").stdout == "1\n"


def test_what_a_command_changed_before_it_exited_is_kept(session: Session) -> None:
    session.exec("cd /usr; export changed=1; f() { echo f; }; exit 3")
    assert session.exec("echo $changed; f; pwd").stdout == "1\nf\n/usr\n"


def test_set_e_does_not_outlive_the_shell_that_it_ended(session: Session) -> None:
    session.exec("set -e; kept=1")
    assert session.exec("false").exit_code == 1
    assert session.exec("false; echo $kept").stdout == "1\n"


def test_the_exit_code_of_the_command_before_can_be_asked_for(session: Session) -> None:
    for command, code in [("(exit 7)", "7"), ("exit 8", "8"), ("true", "0"), ("kill -9 $$", "137")]:
        session.exec(command)
        assert session.exec("echo $?").stdout == f"{code}\n"
    session.exec(["sh", "-c", "exit 9"])
    assert session.exec("echo $?").stdout == "9\n"


def test_where_the_shell_is_does_not_hang_on_its_variables(session: Session) -> None:
    session.exec("cd /tmp; mkdir -p here; cd here; PWD=/nonsense")
    session.write_file("relative", "1")
    assert session.read_file("/tmp/here/relative") == "1"
    session.exec("unset PWD OLDPWD")
    session.write_file("again", "2")
    assert session.read_file("/tmp/here/again") == "2"
    session.exec("kill -9 $$")
    assert session.exec("cat relative again").stdout == "12"


def test_a_folder_that_was_deleted_under_the_shell(session: Session) -> None:
    session.exec("mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone")
    assert session.exec("echo on").stdout == "on\n"
    session.exec("kill -9 $$")
    assert session.exec("echo on; cd /tmp && pwd").stdout == "on\n/tmp\n"


def test_a_shell_killed_between_two_commands_is_not_noticed(session: Session) -> None:
    session.exec("kept=1; mkfifo /tmp/now")
    for _ in range(10):
        session.exec("(read < /tmp/now; kill -9 $$) & true")
        session.exec("kept=2")
        # Whether the kill comes before, while or after this, what it says of its own end is true.
        result = session.exec("echo go 1<> /tmp/now; echo ran")
        assert (result.exit_code, result.stdout) in [(0, "ran\n"), (137, ""), (137, "ran\n")]
        after = session.exec("echo $kept")
        assert (after.exit_code, after.stdout) in [(0, "2\n"), (137, ""), (137, "2\n")]
        assert session.exec("echo $kept").stdout == "2\n"


def test_nobody_hears_of_what_is_written_to_other_descriptors(session: Session) -> None:
    session.exec(r"for n in {3..255}; do printf '7 0 /\0garbage\0' >&$n; done 2>/dev/null; true", timeout=20)
    for n in range(3):
        assert session.exec(f"echo {n}; (exit {n})", timeout=20).exit_code == n


def test_a_command_can_t_read_what_is_meant_for_the_shell(session: Session) -> None:
    session.exec("for n in {3..30}; do timeout 0.01 cat <&$n; done 2>/dev/null", timeout=20)
    assert session.exec("cat; echo on", timeout=20).stdout == "on\n"


def test_names_that_the_shell_uses_itself_may_be_variables(prepared: Session) -> None:
    prepared.exec("_sandcove_command=1; _sandcove_pair=2; _sandcove_set=3; _sandcove_shopt=4")
    prepared.exec("kill -9 $$")
    assert prepared.exec(ASK).stdout == ANSWER


@pytest.mark.parametrize("places", ["/run/sandcove", "/run/sandcove /var/lib/sandcove", "/run/* /var/* /tmp/*"])
def test_one_who_deletes_what_the_shell_keeps_loses_no_more_than_that(prepared: Session, places: str) -> None:
    assert prepared.exec(f"rm -rf {places}; true").exit_code == 0
    assert prepared.exec("echo on").stdout == "on\n"
    assert prepared.exec(f"rm -rf {places}; exit 6").exit_code == 6
    assert prepared.exec("echo on; mkdir -p /tmp").stdout == "on\n"


def test_background_commands_run_once(session: Session) -> None:
    for _ in range(20):
        for command in ("echo x >> /tmp/once; sleep 0.2 & disown", "echo x >> /tmp/once; coproc cat; true"):
            assert session.exec(command, timeout=20).exit_code == 0
    assert session.exec("echo x >> /tmp/once; sleep 1000 &", timeout=20).exit_code == 0
    assert session.exec("grep -c x /tmp/once").stdout == "41\n"


def test_umask_is_kept(session: Session) -> None:
    session.exec("umask 027")
    session.exec("kill -9 $$")
    assert session.exec("umask").stdout == "0027\n"


def test_a_timeout_leaves_the_state_as_it_was_before_the_command(prepared: Session) -> None:
    with pytest.raises(ExecutionTimeoutError):
        prepared.exec("plain=lost; cd /; exec sleep 1000", timeout=0.2)
    assert prepared.exec(ASK).stdout == ANSWER
