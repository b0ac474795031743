"""Room plans, for any folders: nothing is mounted twice, bubblewrap's arguments are well-formed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from hypothesis import example, given
from hypothesis import strategies as st

from sandcove.runtimes.local.copied import copied_folders
from sandcove.runtimes.local.plan import (
    ROOT_LINKS,
    HostPython,
    bubblewrap_arguments,
    plan_room,
    search_path,
)

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in {".", ".."}
)
folders = st.lists(names, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))
under_usr = folders.map(lambda path: "/usr" + path)
pythons = st.builds(HostPython, folders | under_usr, folders | under_usr)
links = st.lists(st.sampled_from(ROOT_LINKS), unique=True)
TAKES_ONE = {
    "--uid",
    "--gid",
    "--hostname",
    "--info-fd",
    "--proc",
    "--dev",
    "--dir",
    "--cap-drop",
    "--tmpfs",
    "--chdir",
    "--size",
    "--perms",
}
TAKES_TWO = {"--bind", "--ro-bind", "--symlink", "--setenv"}


@given(pythons, links)
@example(HostPython("/usr", "/usr"), [])
@example(HostPython("/opt/a/venv", "/opt/a"), ["bin"])
@example(HostPython("/opt/ab", "/opt/a"), [])
def test_no_copied_folder_lies_in_another(python: HostPython, root_folders: list[str]) -> None:
    copied = [PurePosixPath(path) for path in copied_folders(python, root_folders)]
    assert len(set(copied)) == len(copied)
    for one in copied:
        assert not any(one != other and one.is_relative_to(other) for other in copied)
    for wanted in ("/usr", python.prefix, python.base_prefix, *(f"/{name}" for name in root_folders)):
        assert any(PurePosixPath(wanted).is_relative_to(path) for path in copied)


@given(pythons, links, folders, folders, st.booleans())
def test_the_arguments_are_well_formed(
    python: HostPython, root_folders: list[str], folder: str, etc: str, mapped: bool
) -> None:
    copied = copied_folders(python, root_folders)
    plan = plan_room(Path(folder), Path(etc), copied, search_path(python), mapped=mapped)
    words = bubblewrap_arguments(plan, info_fd=11, holder_fd=12, server=7)
    rest = iter(words)
    mounted: list[str] = []
    for word in rest:
        if word == "--":
            break
        assert word.startswith("--"), f"{word!r} stands where an option must"
        if word in TAKES_ONE:
            argument = next(rest)
            if word in {"--proc", "--dev", "--tmpfs", "--dir"}:
                mounted.append(argument)
        elif word in TAKES_TWO:
            source, target = next(rest), next(rest)
            assert source.startswith("/") and target.startswith("/")
            mounted.append(target)
    assert list(rest) == ["/proc/self/fd/12", str(Path(folder) / "root"), "7"]
    assert not any("\0" in word for word in words)
    assert mounted[0] == "/", "the root comes first: what is mounted before it is hidden"
    assert len(mounted) == len(set(mounted))
    assert ("--unshare-user" in words) != mapped, "the launcher has made it"
    if mapped:
        assert not any(word.startswith(folder) for word in words[:-2]), "a stranger does not find the way there"
        assert set(plan.entry.attach) < set(mounted)
    assert {"--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"} <= set(words)
    assert {"--die-with-parent", "--as-pid-1", "--clearenv"} <= set(words)


@given(pythons, links, folders, folders)
@example(HostPython("/a/b", "/a-b"), [], "/box", "/etc-layer")
@example(HostPython("/" + "/".join(["deep"] * 60), "/usr"), [], "/box", "/etc-layer")
@example(HostPython("/home/a,b/.venv", "/opt/c:d"), [], "/box", "/etc-layer")
def test_every_layer_is_the_sandbox_s_own_and_in_no_other(
    python: HostPython, root_folders: list[str], folder: str, etc: str
) -> None:
    plan = plan_room(Path(folder), Path(etc), copied_folders(python, root_folders), "/bin", mapped=False)
    uppers = [overlay.upper for overlay in plan.entry.overlays]
    works = [overlay.work for overlay in plan.entry.overlays]
    assert len({*uppers, *works}) == 2 * len(plan.entry.overlays)
    targets = [PurePosixPath(overlay.target) for overlay in plan.entry.overlays]
    assert PurePosixPath("/etc") in targets and len(set(targets)) == len(targets)
    for overlay in plan.entry.overlays:
        # Mount options: a comma or colon in them would be read as another option or layer.
        assert not set(overlay.lower + overlay.upper + overlay.work) & set(",:\\"), overlay
    for made in plan.folders:
        assert Path(made).is_relative_to(folder)
        assert all(len(part.encode()) <= 255 for part in Path(made).relative_to(folder).parts)


@given(pythons)
def test_the_search_path_begins_with_the_environment_s_programs(python: HostPython) -> None:
    parts = search_path(python).split(":")
    assert len(parts) == len(set(parts)) or ":" in python.prefix + python.base_prefix
    assert {"/usr/bin", "/bin", "/usr/local/bin"} <= set(parts)
